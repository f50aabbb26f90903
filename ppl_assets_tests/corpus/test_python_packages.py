import sys

import pytest

from ppl_assets.corpus import Page, Rejection, read_pages
from ppl_assets.corpus.python_packages import _distributions, package_files, package_versions
from ppl_assets_tests.corpus.builders import make_study

METADATA = "Metadata-Version: 2.1\nName: tiny-dist\nVersion: 1.5\n{fields}\n\n# Tiny\n\nA package for tests.\n"


def packages(*names):
    return {"kind": "python_packages", "packages": list(names)}


def pages_of(folder, *names, wanted=None, **corpus):
    return list(read_pages(make_study(folder, packages(*names), **corpus), wanted=wanted))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty folder on the path, as site-packages is."""
    monkeypatch.syspath_prepend(tmp_path)
    _distributions.cache_clear()
    yield tmp_path
    _distributions.cache_clear()


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def install(folder, fields="", files="tinypkg/__init__.py,,\n"):
    write(
        folder,
        {"tiny_dist-1.5.dist-info/METADATA": METADATA.format(fields=fields), "tiny_dist-1.5.dist-info/RECORD": files},
    )


def test_a_file_is_a_page_of_prose_and_a_page_of_code_in_one_unit(site):
    write(site, {"tinypkg/__init__.py": '"""What it is."""\n\nraise SystemExit("imported")\n'})
    common = {"license": None, "maker": None, "unit": "tinypkg/__init__.py"}
    assert pages_of(site, "tinypkg") == [
        Page(
            page_id="tinypkg/code:tinypkg/__init__.py",
            domain="tinypkg/code",
            text='\nraise SystemExit("imported")\n',
            domain_group="code",
            language="python",
            **common,
        ),
        Page(
            page_id="tinypkg/prose:tinypkg/__init__.py",
            domain="tinypkg/prose",
            text="What it is.",
            domain_group="prose",
            language="en",
            **common,
        ),
    ]
    assert "tinypkg" not in sys.modules


def test_what_cannot_be_read_is_rejected_for_both_kinds_and_counted_in_bytes_once(site):
    broken = {
        "bad.py": b"def f(:\n",
        "bytes.py": b"x = '\xff'\n",
        "coding.py": b"# coding: nosuch\n",
        "long.py": b"#" * 301,
    }
    write(site, {f"tinypkg/{name}": content for name, content in broken.items()})
    found = pages_of(site, "tinypkg", max_page_bytes=300)
    assert all(isinstance(page, Rejection) for page in found)
    assert [(page.page_id, page.reason, page.bytes) for page in found] == [
        ("tinypkg/code:tinypkg/bad.py", "not_parsable", 8),
        ("tinypkg/prose:tinypkg/bad.py", "not_parsable", 0),
        ("tinypkg/code:tinypkg/bytes.py", "not_utf8", 8),
        ("tinypkg/prose:tinypkg/bytes.py", "not_utf8", 0),
        ("tinypkg/code:tinypkg/coding.py", "not_utf8", 17),
        ("tinypkg/prose:tinypkg/coding.py", "not_utf8", 0),
        ("tinypkg/code:tinypkg/long.py", "too_long", 301),
        ("tinypkg/prose:tinypkg/long.py", "too_long", 0),
    ]


def test_a_coding_line_and_windows_line_ends_are_heeded(site):
    write(site, {"tinypkg/old.py": "# coding: latin-1\r\nx = 'é'\r\n".encode("latin-1")})
    code, prose = pages_of(site, "tinypkg")
    assert code.text == "# coding: latin-1\nx = 'é'\n"
    assert prose.reason == "empty"


def test_markdown_is_prose_and_caches_data_and_broken_links_are_passed_over(site):
    write(
        site,
        {
            "tinypkg/sub/README.md": "# Read me\n",
            "tinypkg/guide.rst": b"not \xff UTF-8",
            "tinypkg/__pycache__/x.py": "x = 1",
            "tinypkg/data.json": "{}",
        },
    )
    (site / "tinypkg/gone.py").symlink_to(site / "nowhere.py")
    guide, readme = pages_of(site, "tinypkg")
    assert (guide.page_id, guide.reason, guide.bytes) == ("tinypkg/prose:tinypkg/guide.rst", "not_utf8", 11)
    assert (readme.page_id, readme.text) == ("tinypkg/prose:tinypkg/sub/README.md", "# Read me\n")


def test_files_come_by_name_and_packages_in_the_order_of_the_study(site):
    write(
        site,
        {f"{package}/{name}": "x = 1\n" for package in ("bbb", "aaa") for name in ("b.py", "a/z.py", "c.py", "a.py")},
    )
    names = [page.unit for page in pages_of(site, "bbb", "aaa") if isinstance(page, Page)]
    order = ["a.py", "a/z.py", "b.py", "c.py"]
    assert names == [f"{package}/{name}" for package in ("bbb", "aaa") for name in order]


def test_a_module_of_one_file_is_a_package_too_and_what_is_not_installed_is_left_out(site):
    write(site, {"single.py": "x = 1\n"})
    assert [page.page_id for page in pages_of(site, "nosuch", "sys", "single", "single.sub")][:1] == [
        "single/code:single.py"
    ]


def test_wanted_pages_are_read_and_other_files_are_not_opened(site):
    write(site, {"tinypkg/a.py": "x = 1\n", "tinypkg/b.py": "y = 1\n"})
    found = pages_of(site, "tinypkg", wanted={"tinypkg/prose:tinypkg/b.py"})
    assert [page.page_id for page in found] == ["tinypkg/code:tinypkg/b.py", "tinypkg/prose:tinypkg/b.py"]


def test_the_description_of_the_distribution_is_a_page_of_prose(site):
    write(site, {"tinypkg/__init__.py": "x = 1\n"})
    install(site, "License-Expression: MIT\nAuthor: Ann\nLicense: other")
    description = pages_of(site, "tinypkg")[-1]
    assert description == Page(
        page_id="tinypkg/prose:tiny-dist-1.5.dist-info/METADATA",
        domain="tinypkg/prose",
        text="# Tiny\n\nA package for tests.",
        domain_group="prose",
        language="en",
        license="MIT",
        maker="Ann",
        unit="tiny-dist-1.5.dist-info/METADATA",
    )
    assert package_versions("tinypkg") == {"tiny-dist": "1.5"}


@pytest.mark.parametrize(
    ("fields", "license", "maker"),
    [
        ("License: BSD\nAuthor-email: Bo <bo@example.org>", "BSD", "Bo <bo@example.org>"),
        (
            "License: Copyright\n  all the\n  terms\nClassifier: License :: OSI Approved :: MIT License",
            "MIT License",
            None,
        ),
        (f"License: {'long ' * 30}\nClassifier: Typing :: Typed", None, None),
        ("License:\nAuthor:\nClassifier: License :: A :: One\nClassifier: License :: Two", "One; Two", None),
    ],
)
def test_licence_and_maker_are_what_the_distribution_states(site, fields, license, maker):
    write(site, {"tinypkg/__init__.py": "x = 1\n"})
    install(site, fields)
    assert {(page.license, page.maker) for page in pages_of(site, "tinypkg") if isinstance(page, Page)} == {
        (license, maker)
    }


def test_the_standard_library_has_pythons_licence_and_no_distribution(tmp_path):
    found = [page for page in pages_of(tmp_path, "json") if isinstance(page, Page)]
    assert {(page.license, page.maker) for page in found} == {("PSF-2.0", "Python Software Foundation")}
    assert {page.domain for page in found} == {"json/code", "json/prose"}
    assert "json/code:json/decoder.py" in {page.page_id for page in found}
    assert package_versions("json") == {}


def test_files_know_their_size(site):
    write(site, {"tinypkg/a.py": "x = 1\n"})
    assert [(file.name, file.size) for file in package_files("tinypkg")] == [("tinypkg/a.py", 6)]
