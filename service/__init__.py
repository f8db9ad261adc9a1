"""The gRPC service and its clients: durable jobs, streamed events, the kernel cache over the wire.

``server.py`` assembles it, ``client.py`` and ``async_client.py`` talk to it, ``calls.py`` says what they may ask,
``convert/`` knows both proto and domain.
"""
