"""Templates: what `template.toml` may say, and what a template cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from iii_skill.scaffold.answers import resolve
from iii_skill.scaffold.catalog import Catalog, bundled, bundled_directory
from iii_skill.scaffold.errors import AnswerError, TemplateError, UnsafePath
from iii_skill.scaffold.render import Renderer
from iii_skill.scaffold.template import load_template

HEAD = 'name = "mine"\ntitle = "Mine"\ndescription = "My template."\nlanguage = "python"\nversion = "1"\n'
QUESTION = '[questions.greeting]\ntype = "text"\nhelp = "What to say."\n'


def make(directory: Path, settings: str = "", files: dict[str, str] | None = None) -> Path:
    place = directory / "mine"
    place.mkdir()
    (place / "template.toml").write_text(HEAD + settings)
    for path, text in (files or {}).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    return place


def rendered(directory: Path, **given: object) -> dict[str, str]:
    renderer = Renderer(load_template(directory))
    return renderer.render(resolve(renderer, given, destination="project"))


def test_names_lose_their_suffix_and_dots_come_back(tmp_path: Path) -> None:
    place = make(tmp_path, files={"dot-env.j2": "A=1\n", "deep/x.txt.j2": "x", "dot-ci/y.j2": "y"})
    assert rendered(place) == {".env": "A=1\n", "deep/x.txt": "x", "dot-ci/y": "y"}


def test_a_target_may_be_named_by_an_answer(tmp_path: Path) -> None:
    settings = QUESTION + '[files."x.j2"]\ntarget = "{{ greeting|lower }}.txt"\n'
    place = make(tmp_path, settings, {"x.j2": "{{ greeting }}"})
    assert rendered(place, greeting="Hi") == {"hi.txt": "Hi"}


TABLE = """
[[tables.functions]]
key = "one"
id = "{{ greeting|lower }}::one"
status = 200

[[tables.functions]]
key = "two"
when = "greeting == 'Bye'"
id = "two"
status = 201

[values]
last = "functions.values()|list|last"
"""


@pytest.mark.parametrize(
    ("greeting", "text"), [("Hi", "one hi::one 200;"), ("Bye", "one bye::one 200;two two 201;")]
)
def test_a_table_gives_the_rows_that_apply(tmp_path: Path, greeting: str, text: str) -> None:
    rows = "{% for key, row in functions.items() %}{{ key }} {{ row.id }} {{ row.status }};{% endfor %}"
    place = make(tmp_path, QUESTION + TABLE, {"x.j2": rows, "y.j2": "{{ last.key }}"})
    assert rendered(place, greeting=greeting) == {"x": text, "y": text.split(";")[-2].split()[0]}


def test_files_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    place = make(tmp_path, QUESTION, {"x.j2": "{{ greeting }}"})
    for path in place.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert rendered(place, greeting="hi") == {"x": "hi"}


@pytest.mark.parametrize("greeting", ["../up", "/etc/passwd", "a/../../b", ".git/hooks/pre-commit"])
def test_an_answer_cannot_name_a_target_outside(tmp_path: Path, greeting: str) -> None:
    settings = QUESTION + '[files."x.j2"]\ntarget = "{{ greeting }}"\n'
    with pytest.raises(UnsafePath):
        rendered(make(tmp_path, settings, {"x.j2": "x"}), greeting=greeting)


def test_a_question_without_a_default_must_be_answered(tmp_path: Path) -> None:
    place = make(tmp_path, QUESTION, {"x.j2": "{{ greeting }}"})
    with pytest.raises(AnswerError, match=r"An answer is missing: give --greeting \(What to say\.\)"):
        rendered(place)


@pytest.mark.parametrize(
    "text",
    [
        "{{ missing }}",
        "{{ greeting.missing }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ greeting.format.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% import 'os' as os %}{{ os.system('true') }}",
        "{% include '/etc/passwd' %}",
        "{% include '../../secret.j2' %}",
        "{% for number in range(3) %}{{ number }}{% endfor %}",
        "{{ '%s'|format(greeting) }}{{ greeting.__getattribute__('x') }}",
        "{% if %}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_runs_no_code_and_misspells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret.j2").write_text("secret")
    with pytest.raises(TemplateError, match=r"Template mine: x\.j2"):
        rendered(make(tmp_path, QUESTION, {"x.j2": text}), greeting="hi")


@pytest.mark.parametrize(
    ("settings", "files", "words"),
    [
        ("surprise = 1\n", {}, "unknown key 'surprise'"),
        ("x = [", {}, "cannot be read"),
        ('[questions.a]\ntype = "magic"\nhelp = "x"\n', {}, "has type 'magic'"),
        ('[questions.a]\nhelp = "x"\n', {}, "is not valid"),
        ('[questions.a]\ntype = "text"\nhelp = "x"\nsize = 3\n', {}, "is not valid"),
        ('extends = "../elsewhere"\n', {}, "must name a directory beside it"),
        ('extends = "missing"\n', {}, "cannot be read"),
        ("", {"x.txt": "x"}, "does not end in .j2"),
        (
            '[questions.a]\ntype = "name"\nhelp = "x"\nnamespace = "moon"\n',
            {},
            "has namespace 'moon'; there are",
        ),
        ('[[tables.t]]\nkey = "a"\n[[tables.t]]\nkey = "a"\n', {}, "a key stands twice in the table 't'"),
        ('[[tables.t]]\nid = "a"\n', {}, "is not valid"),
        ("[tables]\nt = 3\n", {}, "is not valid"),
    ],
)
def test_a_faulty_template_is_refused_with_the_reason(
    tmp_path: Path, settings: str, files: dict[str, str], words: str
) -> None:
    with pytest.raises(TemplateError, match=words):
        load_template(make(tmp_path, settings, files))


def test_a_link_out_of_the_template_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.j2").write_text("secret")
    place = make(tmp_path)
    (place / "x.j2").symlink_to(tmp_path / "secret.j2")
    with pytest.raises(TemplateError, match="leaves the template"):
        load_template(place)


def test_two_files_cannot_have_one_name(tmp_path: Path) -> None:
    place = make(tmp_path, '[files."a.j2"]\ntarget = "b"\n', {"a.j2": "", "b.j2": ""})
    with pytest.raises(TemplateError, match="two files want to be 'b'"):
        rendered(place)


def test_a_broken_template_is_reported_and_the_others_stay(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "template.toml").write_text("name = 1")
    catalog = Catalog()
    catalog.add(tmp_path, "some-package")
    assert list(catalog.templates) == ["mine"]
    assert [(broken.name, broken.package) for broken in catalog.broken] == [("broken", "some-package")]
    with pytest.raises(TemplateError, match="'broken' of some-package cannot be used"):
        catalog.get("broken")


def test_a_bundled_name_cannot_be_taken_over(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "mine").rename(tmp_path / "python")
    settings = (tmp_path / "python" / "template.toml").read_text().replace('"mine"', '"python"')
    (tmp_path / "python" / "template.toml").write_text(settings)
    catalog = Catalog()
    catalog.add(bundled_directory(), "iii-skill")
    catalog.add(tmp_path, "evil")
    assert catalog.get("python").package == "iii-skill"
    assert catalog.broken[0].reason == "The name is taken by iii-skill."


def test_no_path_reaches_a_bundled_template() -> None:
    assert bundled("../templates/python") is None
    assert bundled(".") is None


def test_every_bundled_file_survives_installers() -> None:
    """No hidden file, no leading underscore, no second SKILL.md, nothing that does not end in .j2."""
    for path in bundled_directory().rglob("*"):
        assert not path.name.startswith((".", "_")), path
        assert path.is_dir() or path.name == "template.toml" or path.suffix == ".j2", path
        assert path.name not in ("SKILL.md", "metadata.json"), path
        assert not path.is_symlink(), path
