"""The network below the guarded client: httpcore's streams on asyncio's transports. It imports nothing of ours."""
