"""The wire format: protobuf messages and gRPC services of package fettle.v1, generated from the .proto files here.

Regenerate with ``python tools/generate_protos.py``; only ``fettle.service.convert`` translates to domain values.
"""
