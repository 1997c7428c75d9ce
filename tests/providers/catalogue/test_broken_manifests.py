"""A manifest that is not right says where, with file and line, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.catalogue import CatalogueError, read_document

TEXT = """\
schema: 1
slug: lab
name: Lab
category: geo
adapter: manifest
docs_url: https://lab.example/docs
base_url: https://lab.example/v1
auth: {type: none}
verification: {operation: geo.geocode, params: {q: x}}
decode: xml
lists: [hit]
errors:
  - {when: {status: 429}, as: quota_exhausted, resets: day}
operations:
  geo.geocode:
    steps:
      - name: found
        request:
          path: /search
          method: POST
          body:
            json: {q: "{q}", n: "{page.size}", from: "{page.offset}"}
        errors:
          - {when: {status: 400}, as: empty}
        give:
          ids: {path: 'hits[].id', transform: {join: ","}}
          link: links.next
      - name: more
        request: {url: "{steps.found.link}"}
        give: {token: token}
    request:
      path: /places
      query: {ids: "{steps.found.ids}", token: "{steps.more.token}"}
    page: {by: offset, most: 50}
    records: {path: hits, transform: first}
    map:
      lat: lat
      lon: lon
      label: name
    examples: [x]
"""


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "lab.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(CatalogueError) as caught:
        read_document(path)
    return caught.value.faults


def test_the_text_is_right_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(TEXT, "utf-8")
    assert read_document(path).manifest


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("decode: xml", "decode: json", "11: lists: Is for `decode: xml`."),
        ("lists: [hit]", "table: {}", "11: table: Is for `decode: table`."),
        ("lists: [hit]", "table: {by: x}", "11: table.by: Must be comma, semicolon, bar or tab."),
        ("decode: xml", "decode: yaml", "10: decode: Must be json, xml or table."),
        ("resets: day", "resets: year", "13: errors.0.resets: Must be minute, hour, day or month."),
        ("name: more", "name: found", "28: operations.geo.geocode.steps.1.name: An earlier step has this name."),
        ("name: more", "name: More!", "28: operations.geo.geocode.steps.1.name: Must match the pattern"),
        ("method: POST", "method: GET", "22: operations.geo.geocode.steps.0.request.body: A GET has none; say `method: POST`."),
        ("method: POST", "method: PUT", "20: operations.geo.geocode.steps.0.request.method: Must be GET or POST."),
        ("json: {q:", "text: {q:", "22: operations.geo.geocode.steps.0.request.body.text: Unknown. Leave it out."),
        ('n: "{page.size}"', 'n: "{limit"', "22: operations.geo.geocode.steps.0.request.body.json.n: Is no template"),
        ('q: "{q}"', 'q: "{query}"', "22: operations.geo.geocode.steps.0.request.body.json.q: The operation has no parameter `query`."),
        ('q: "{q}"', 'q: "x"', "32: operations.geo.geocode.request: Does not tell the provider `q`, which every call has."),
        ("{path: 'hits[].id', transform", "{path: 'hits[', transform", "26: operations.geo.geocode.steps.0.give.ids.path: no JMESPath"),
        ("link: links.next", "href: links.next", "29: operations.geo.geocode.steps.1.request.url: No earlier step gives `steps.found.link`. Those before this one give: "),
        ('{url: "{steps.found.link}"}', '{url: "https://lab.example/{q}"}', "29: operations.geo.geocode.steps.1.request.url: Must be one value of an earlier step"),
        ('{url: "{steps.found.link}"}', "{query: {a: b}}", "29: operations.geo.geocode.steps.1.request: Needs `path`, or the `url` that an earlier step gave."),
        ('"{steps.more.token}"', '"{steps.later.token}"', "33: operations.geo.geocode.request.query.token: No earlier step gives `steps.later.token`."),
        ('from: "{page.offset}"', "from: 0", "34: operations.geo.geocode.page: No request tells the provider `{page.offset}`."),
        ('n: "{page.size}"', "n: 10", "34: operations.geo.geocode.page: No request tells the provider `{page.size}` (or say `size`"),
        ("page: {by: offset, most: 50}", "page: {by: cursor}", "34: operations.geo.geocode.page: Needs `next`"),
        ("    page: {by: offset, most: 50}\n", "", "22: operations.geo.geocode.steps.0.request.body.json.n: `page.size` is not there: `page` must say how the provider pages."),
        ("page: {by: offset, most: 50}", "page: {by: offset, most: 500}", "34: operations.geo.geocode.page.most: Must be at most 100."),
        ("page: {by: offset, most: 50}", "each: {of: steps.found.ids, most: 11}", "34: operations.geo.geocode.each.most: Must be at most 10."),
        ("page: {by: offset, most: 50}", "each: {of: steps.nobody.ids}", "34: operations.geo.geocode.each.of: No earlier step gives `steps.nobody.ids`."),
        ("transform: first", "transform: furst", "35: operations.geo.geocode.records.transform: there is no transform 'furst'."),
    ],
)  # fmt: skip
def test_each_fault_is_told_at_its_line(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    assert TEXT.count(right) == 1
    found = faults(tmp_path, TEXT.replace(right, wrong))
    assert [fault for fault in found if fault.startswith(f"lab.yaml:{told}")], found


def test_a_fourth_request_in_a_row_is_one_too_many(tmp_path: Path) -> None:
    step = TEXT[TEXT.index("      - name: more") : TEXT.index("    request:\n      path: /places")]
    text = TEXT.replace(step, step + step.replace("name: more", "name: again"))
    assert faults(tmp_path, text)[0].startswith("lab.yaml:17: operations.geo.geocode.steps: ")
