"""The SDK for Node.js: one file of that language, put into bundles that say `sdk = "node"`."""
