"""`python -m contracts.documents.diagram` writes the topic map into the README; `--check` fails if it is stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Final

from contracts.documents.generate import repository
from contracts.topics import SERVICES, TOPICS, Topic

BEGIN: Final = "<!-- the map, drawn by python -m contracts.documents.diagram -->"
END: Final = "<!-- the end of the map -->"


def flow_diagram() -> str:
    """The topic map as a Mermaid flowchart; dotted lines lead to the services that read a topic without a group."""
    read = [topic for topic in TOPICS if topic.groups or topic.tails]
    lines = ["flowchart LR"]
    lines += [f"    {_node(service)}[{service}]" for service in SERVICES]
    lines += [f"    {_node(topic.name)}([{topic.name}])" for topic in read]
    lines += [line for topic in read for line in _edges(topic)]
    return "\n".join(lines)


def with_diagram(text: str) -> str:
    """The text with the diagram between BEGIN and END. Raises ValueError if the text lacks one of them."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the text has no marks for the diagram: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n```mermaid\n{flow_diagram()}\n```\n{END}{after}"


def _node(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")


def _edges(topic: Topic) -> Iterator[str]:
    node = _node(topic.name)
    yield from (f"    {_node(producer)} --> {node}" for producer in topic.producers)
    yield from (f"    {node} --> {_node(group)}" for group in topic.groups)
    yield from (f"    {node} -.-> {_node(tail)}" for tail in topic.tails)


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m contracts.documents.diagram", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the diagram is stale")
    check = parser.parse_args().check
    readme = repository() / "README.md"
    text = readme.read_text(encoding="utf-8")
    updated = with_diagram(text)
    if updated == text:
        return 0
    if not check:
        readme.write_text(updated, encoding="utf-8")
    sys.stdout.write(f"{'stale' if check else 'written'}: README.md\n")
    return 1 if check else 0


if __name__ == "__main__":
    sys.exit(main())
