"""A client with a raw socket: responses are what a JSON decoder takes off the front of what has come."""

import json
import socket
import sys


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.text = ""
        self.decoder = json.JSONDecoder()

    def send(self, *requests):
        self.socket.sendall("".join(json.dumps(request) for request in requests).encode())

    def receive(self):
        while True:
            self.text = self.text.lstrip()
            try:
                response, end = self.decoder.raw_decode(self.text)
                self.text = self.text[end:]
                return response
            except ValueError:
                data = self.socket.recv(4096)
                assert data, "the server closed the connection"
                self.text += data.decode()

    def call(self, method, params=None, request_id=1):
        self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        response = self.receive()
        assert response["jsonrpc"] == "2.0" and response["id"] == request_id, response
        return response


client = Client(sys.argv[1])
assert client.call("echo", {"size": 1 << 63, "name": "größe"})["result"] == {"size": 1 << 63, "name": "größe"}
assert client.call("fail", {}, "text")["error"] == {"code": -19, "message": "No such device"}
assert len(client.call("fill", [2_000_000])["result"]) == 2_000_000

# Many at once, in one piece, and a batch.
client.send(*({"id": number, "method": "echo", "params": [number]} for number in range(500)))
assert sorted(client.receive()["id"] for _ in range(500)) == list(range(500))
client.send([{"id": "a", "method": "echo"}, {"method": "echo"}, {"id": "b", "method": "zz"}])
assert [response["id"] for response in client.receive()] == ["a", "b"]

# One byte at a time.
for byte in b'{"id": 7, "method": "echo", "params": ["\\u00e4"]}':
    client.socket.sendall(bytes([byte]))
assert client.receive() == {"jsonrpc": "2.0", "id": 7, "result": ["ä"]}

# What is no JSON is answered, then the connection ends.
client.socket.sendall(b"not json")
assert client.receive()["error"]["code"] == -32700
assert client.socket.recv(1) == b""
print("done")
