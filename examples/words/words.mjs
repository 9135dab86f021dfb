// Greetings for examples/guestbook, in Node.js: `paas create words --group words`.

import { Component, ComponentError } from "./paas-component.mjs";

const component = new Component();
const greetings = ["Hello", "Hail", "Welcome"];
let given = 0;

component.operation("greeting", async (inputs) => {
  if (typeof inputs.for !== "string") throw new ComponentError("invalid", "for: expected a name");
  const greeting = greetings[given++ % greetings.length];
  component.attributes({ kind: "volatile" }).given = given;
  return { text: `${greeting}, ${inputs.for}!` };
});

component.operation("learn", ({ greeting }) => {
  greetings.push(String(greeting));
  component.log(`learned ${greeting}`);
  return { known: greetings.length };
});

await component.join("words");
await component.run();
