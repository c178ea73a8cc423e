"""Errors in models.yaml: each is reported with its line, and all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.catalogue import CatalogueError, default_catalogue_path, load_catalogue

GOOD = """\
models:
  music/one:
    title: One
    routes:
      fal:
        endpoint: fal-ai/one
        input:
          prompt: {from: prompt}
          seconds: {from: duration_s, clamp: [1, 9], round: up}
        limits:
          vocals: forbidden
          lyrics: forbidden
        price: {usd: 0.1, per: run}
        longest_run_s: 60
        start_within_s: 30
        source: https://example.com/one
  image/two:
    title: Two
    routes:
      replicate:
        endpoint: someone/two
        input:
          prompt: {from: prompt}
          count: {from: num_images}
          shape: {from: aspect_ratio, choose: {"1:1": a, "4:3": b, "3:4": c, "16:9": d, "9:16": e}}
        longest_run_s: 60
        start_within_s: 30
        source: https://example.com/two
defaults:
  instrumental: [music/one]
  vocals_with_lyrics: [music/one]
  vocals_without_lyrics: [music/one]
  image:
    - image/two
"""


def errors_of(folder: Path, text: str | bytes) -> list[str]:
    path = folder / "models.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(path)
    return str(caught.value).splitlines()


def test_a_valid_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(GOOD)
    assert set(load_catalogue(path).models) == {"music/one", "image/two"}


def test_a_route_at_replicate_may_pin_a_version(tmp_path: Path) -> None:
    pinned = f"someone/two:{'0123456789abcdef' * 4}"
    path = tmp_path / "models.yaml"
    path.write_text(GOOD.replace("someone/two", pinned))
    [route] = load_catalogue(path).models["image/two"].routes
    assert route.endpoint == pinned


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("title: One", "titel: One", "3: unknown key titel"),
        ("    title: One\n", "", "2: title is missing"),
        ("endpoint: fal-ai/one", "endpoint: one", "6: endpoint: String should match pattern"),
        ("endpoint: fal-ai/one", f"endpoint: fal-ai/one:{'a' * 64}", "6: endpoint: fal has no versions"),
        ("endpoint: someone/two", f"endpoint: someone/two:{'A' * 64}", "21: endpoint: the version after the colon"),
        ("endpoint: someone/two", f"endpoint: someone/two:{'a' * 63}", "21: endpoint: the version after the colon"),
        ("endpoint: someone/two", f"endpoint: someone/two:{'a' * 65}", "21: endpoint: the version after the colon"),
        ("endpoint: someone/two", "endpoint: someone/two:a:b", "21: endpoint: String should match pattern"),
        ("endpoint: someone/two", "endpoint: 'someone/two:'", "21: endpoint: String should match pattern"),
        ("        source: https://example.com/one\n", "", "5: source is missing"),
        ("source: https://example.com/one", "source: somewhere", "16: source: String should match pattern"),
        ("      fal:", "      fall:", "5: 'fall': Input should be 'fal' or 'replicate'"),
        ("music/one:", "video/one:", "2: 'video/one': String should match pattern"),
        ("vocals: forbidden", "vocal: forbidden", "11: unknown key vocal"),
        ("vocals: forbidden", "vocals: never", "11: vocals: Input should be 'required' or 'forbidden'"),
        ("vocals: forbidden", "num_images: {max: 2}", "11: the limit num_images does not apply to music"),
        ("          vocals: forbidden\n", "", "5: has_vocals would be silently ignored"),
        ("lyrics: forbidden", "lyrics: required", "5: lyrics would be silently ignored"),
        ("prompt: {from: prompt}", "prompt: {const: x}", "5: prompt would be silently ignored"),
        ("usd: 0.1", "usd: cheap", "13: usd: Input should be a valid number"),
        ("usd: 0.1", "usd: .nan", "13: usd: Input should be a finite number"),
        ("usd: 0.1", "usd: -1", "13: usd: Input should be greater than or equal to 0"),
        ("per: run", "per: hour", "13: per: Input should be 'run', 'image', 'minute' or '1000_s'"),
        ("per: run", "per: image", "13: music has no price per image"),
        ("longest_run_s: 60", "longest_run_s: 0", "14: longest_run_s: Input should be greater than 0"),
        ("start_within_s: 30", "start_within_s: true", "15: start_within_s: Input should be a valid number"),
        ("from: duration_s", "from: seconds", "9: seconds: music has no field 'seconds'; it has prompt"),
        ("from: duration_s", "from: modality", "9: seconds: music has no field 'modality'"),
        ("from: duration_s", "form: duration_s", "9: unknown key form"),
        ("from: duration_s", "from: prompt", "9: seconds: 'prompt' is not a number, so it takes no clamp, round"),
        ("from: duration_s", "from: has_vocals", "9: seconds: 'has_vocals' is not a number"),
        ("from: duration_s", "const: 3", "9: seconds: 'const' takes no clamp, round"),
        ("from: duration_s", "const: 3, from: prompt", "9: seconds: needs either 'from' or 'const'"),
        ("{from: duration_s, clamp: [1, 9], round: up}", "{}", "9: seconds: needs either 'from' or 'const'"),
        ("clamp: [1, 9]", "clamp: [9, 1]", "9: seconds: 'clamp' must be ascending: 9 > 1"),
        ("clamp: [1, 9]", "clamp: [1]", "9: clamp[1] is missing"),
        ("clamp: [1, 9]", "scale: [2, 1]", "9: seconds: 'scale' must be ascending: 2 > 1"),
        ("clamp: [1, 9]", "choose: {1: 2}", "9: seconds: 'duration_s' has no fixed choices, so it takes no choose"),
        ("round: up", "round: down", "9: round: Input should be 'up' or 'nearest'"),
        ("seconds:", "sync_mode:", "9: sync_mode is never sent to fal"),
        ('"9:16": e', '"9:15": e', "25: shape: 'choose' has no value for '9:16'"),
        ('"9:16": e', '"9:16": e, "2:1": f', "25: shape: 'aspect_ratio' is never '2:1'"),
        ('"4:3": b', "4:3: b", "25: shape: 'choose' has no value for '4:3'"),
        ("title: Two", "title: Two\n    title: Three", "19: 'title' is given twice, first on line 18"),
        ("image/two:\n    title", "music/one:\n    title", "17: 'music/one' is given twice, first on line 2"),
        ("- image/two", "- image/three", "34: defaults: no model 'image/three' in this file"),
        ("- image/two", "- music/one", "34: defaults: 'music/one' is not for image"),
        ("  instrumental: [music/one]\n", "", "29: defaults: no model for instrumental"),
        ("  instrumental:", "  instrumentals:", "30: 'instrumentals': Input should be 'instrumental'"),
        ("defaults:", "default:", "29: unknown key default"),
        ("title: One", "title: [", "5: expected ',' or ']'"),
        ("title: One", "title: \tOne: Two", "3: "),
        ("title: One", "? [a, b]\n    : One", "3: found unhashable key"),
        ("title: One", "title: !!python/name:os.system", "3: could not determine a constructor"),
        ("title: One", "title: 2026-99-99", "1: not YAML: month must be in 1..12"),
    ],
)
def test_an_error_is_reported_with_its_line(tmp_path: Path, old: str, new: str, error: str) -> None:
    assert old in GOOD
    found = errors_of(tmp_path, GOOD.replace(old, new, 1))
    assert any(line.startswith(f"models.yaml:{error}") for line in found), found


def test_all_errors_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        GOOD.replace("from: duration_s", "from: seconds")
        .replace("title: Two", "name: Two")
        .replace("- image/two", "- image/three")
    )
    fields = "prompt, duration_s, has_vocals, style_strength, lyrics"
    assert errors_of(tmp_path, text) == [
        f"models.yaml:9: seconds: music has no field 'seconds'; it has {fields}",
        "models.yaml:17: title is missing",
        "models.yaml:18: unknown key name",
        "models.yaml:34: defaults: no model 'image/three' in this file",
    ]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "models.yaml:1: "),
        (b"[]", "models.yaml:1: "),
        (b"models: 3", "models.yaml:1: models: Input should be a valid dictionary"),
        (b"models:\n  music/one: &a\n    routes: *a\n", "models.yaml:"),
        (b"models:\n  \xff\xfe: 1", "models.yaml:2: not YAML"),
        (b"models:\n  a: \x00", "models.yaml:2: not YAML"),
        (b"{" * 5000, "models.yaml:1: "),
        (b"a: 1\n---\nb: 2\n", "models.yaml:2: but found another document"),
    ],
)
def test_a_file_that_is_not_a_catalogue_is_refused_with_the_reason(tmp_path: Path, content: bytes, error: str) -> None:
    assert errors_of(tmp_path, content)[0].startswith(error)


def test_a_missing_file_is_reported_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"SEGUE_CATALOGUE: .*nowhere\.yaml can't be read: No such file"):
        load_catalogue(tmp_path / "nowhere.yaml")


def test_the_shipped_catalogue_is_found_relative_to_the_code() -> None:
    path = default_catalogue_path()
    assert path.parts[-2:] == ("catalogue", "models.yaml")
    assert path.is_file()


def test_without_the_repository_the_error_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contracts.catalogue.load.__file__", str(tmp_path / "a/b/c/d/load.py"))
    with pytest.raises(CatalogueError, match="set SEGUE_CATALOGUE"):
        default_catalogue_path()
