"""Bytes: frames, codecs and the register of messages.  Pure: bytes in, values out, no sockets.

Source: component API, "Transports"; JSON-RPC 2.0; the msgpack specification.
"""
