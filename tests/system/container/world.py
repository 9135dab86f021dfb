"""A piece of the world for tests: a machine of its own on a link to this one, with a name server.

Run in its network namespace: answers on TCP 80 and 81 with the asker's address, and on UDP 53 with
the names that it was given as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import threading

import dnslib


def answer(port: int) -> None:
    server = socket.create_server(("0.0.0.0", port))
    while True:
        connection, sender = server.accept()
        threading.Thread(target=talk, args=(connection, sender[0]), daemon=True).start()


def talk(connection: socket.socket, sender: str) -> None:
    with connection:
        try:
            connection.sendall(f"{sender}\n".encode())
            while data := connection.recv(100):
                connection.sendall(data)
        except OSError:
            return


def name(names: dict[str, list[str]]) -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", 53))
    while True:
        data, sender = udp.recvfrom(4096)
        asked = dnslib.DNSRecord.parse(data)
        reply = asked.reply()
        for address in names.get(str(asked.q.qname).rstrip(".").lower(), []):
            reply.add_answer(dnslib.RR(asked.q.qname, rdata=dnslib.A(address), ttl=1))
        udp.sendto(reply.pack(), sender)


if __name__ == "__main__":
    for port in (80, 81):
        threading.Thread(target=answer, args=(port,), daemon=True).start()
    threading.Thread(target=name, args=(json.loads(sys.argv[1]),), daemon=True).start()
    print("ready", flush=True)  # noqa: T201
    sys.stdin.read()
