"""The JSON output of a model, in the form of each provider."""

import zlib
from collections.abc import Sequence
from typing import Any

from sandbox.models.endpoints import Endpoint, Made, Pictures
from sandbox.runs.files import File


def odd_output(result: Any, files: Sequence[File]) -> Any:
    """A result that a rule defines; `{url}` in its texts is replaced by the first file's URL."""
    if isinstance(result, str):
        return result.replace("{url}", files[0].url)
    if isinstance(result, list):
        return [odd_output(item, files) for item in result]
    if isinstance(result, dict):
        return {key: odd_output(value, files) for key, value in result.items()}
    return result


def emptied(output: Any) -> Any:
    """The same result before its files exist."""
    if not isinstance(output, dict):
        return None
    return {key: None if isinstance(value, dict | list) else value for key, value in output.items()}


def output_of(endpoint: Endpoint, made: Made, files: Sequence[File], given: dict[str, Any]) -> Any:
    """The model's output for `given`, with the URLs of `files`."""
    if endpoint.provider == "replicate":
        urls = [file.url for file in files]
        return urls if isinstance(made, Pictures) else urls[0]
    # A model without a given seed chooses one and reports it.
    seed = given.get("seed") or zlib.crc32(files[0].name.encode())
    if isinstance(made, Pictures):
        images = [{"url": f.url, "width": f.width, "height": f.height, "content_type": f.content_type} for f in files]
        flags = [False] * len(files)
        return {
            "images": images,
            "seed": seed,
            "prompt": given.get("prompt", ""),
            "has_nsfw_concepts": flags,
            "timings": {"inference": 0.3},
        }
    file = files[0]
    described = {
        "url": file.url,
        "content_type": file.content_type,
        "file_name": file.name,
        "file_size": file.size,
    }
    return {endpoint.key: described} | ({"seed": seed} if "seed" in endpoint.accepts.model_fields else {})
