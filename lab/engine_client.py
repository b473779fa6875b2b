"""Run on the lab's control host as its provider: hands the request to lab/engine.py on the machine below."""

import socket
import sys

with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=300) as connection:
    connection.sendall(sys.stdin.buffer.read())
    connection.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
sys.stdout.buffer.write(answer)
sys.exit(answer.startswith(b'{"error"'))
