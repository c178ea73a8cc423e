"""The diagram in the README shows the topic map."""

from __future__ import annotations

import re

import pytest

from contracts.documents.diagram import flow_diagram, with_diagram
from contracts.documents.generate import repository
from contracts.topics import TOPICS


def test_the_readme_has_the_current_diagram() -> None:
    readme = (repository() / "README.md").read_text(encoding="utf-8")
    assert with_diagram(readme) == readme


def test_every_edge_between_a_service_and_a_topic_is_drawn_once() -> None:
    drawing = flow_diagram()
    names = dict(re.findall(r"^ {4}(\w+)\(?\[([\w.-]+)\]\)?$", drawing, re.MULTILINE))
    edges = re.findall(r"^ {4}(\w+) (-->|-\.->) (\w+)$", drawing, re.MULTILINE)
    wanted: list[tuple[str, str, str]] = []
    for topic in TOPICS:
        if topic.groups or topic.tails:
            wanted += [(producer, "-->", topic.name) for producer in topic.producers]
            wanted += [(topic.name, "-->", group) for group in topic.groups]
            wanted += [(topic.name, "-.->", tail) for tail in topic.tails]
    assert [(names[begin], line, names[end]) for begin, line, end in edges] == wanted


def test_a_text_without_a_place_for_the_diagram_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        with_diagram("# Segue\n")
