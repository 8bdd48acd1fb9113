"""The whole product on one machine: an AWS emulator, a real Milvus on its S3, and infra/template.yaml deployed there.

Tests use `LocalStack` as a context manager; `python -m stack up|down` keeps one running. Everything listens on free
ports, uses a separate directory under `target/local`, and is stopped by the ids of the started processes.
"""
