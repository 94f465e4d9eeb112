"""The pytest plugin as its users see it: fixtures, options, reports, and that it costs nothing unused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from support.redis import shared
from support.sdk import python_sdk

pytest_plugins = ["pytester"]

QUIET = ("-q", "-p", "no:cacheprovider", "-p", "no:asyncio")


def test_each_test_has_an_engine_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("round", range(3))
        def test_empty(iii_engine, round):
            assert iii_engine.state.snapshot() == {}
            iii_engine.state.set("a", "k", round)
        """
    )
    pytester.runpytest_subprocess(*QUIET).assert_outcomes(passed=3)


def test_async_tests_use_it_as_it_is(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio

        async def test_async(iii_engine):
            iii_engine.state.set("a", "k", 1)
            await asyncio.to_thread(iii_engine.settle)
            assert iii_engine.events.expect(scope="a").new_value == 1
        """
    )
    done = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
    done.assert_outcomes(passed=1)


def test_a_failing_test_shows_what_happened_and_what_workers_wrote(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        talker="print('I am here', flush=True)\nimport time\ntime.sleep(60)\n",
        test_it="""
        def test_wrong(iii_engine, iii_worker):
            worker = iii_worker("talker.py", functions=[])
            while "here" not in worker.output:
                pass
            iii_engine.state.set("shop", "chair", 1)
            iii_engine.events.expect(scope="shop", key="table", within=0.3)
        """,
    )
    done = pytester.runpytest_subprocess(*QUIET)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*no event (scope='shop', key='table') within 0.3 s. What did happen:*",
            "*- iii engine -*",
            "*state:created*shop / chair*null -> 1",
            "*worker *talker.py*",
            "I am here",
        ]
    )


def test_a_failing_test_names_the_faults_that_struck_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_wrong(iii_engine):
            iii_engine.faults.fail("state::gett")
            iii_engine.faults.fail("state::set").stop()
            iii_engine.faults.lose_reply("state::update", probability=1.0)
            iii_engine.faults.delay("state::list", 0.01)
            iii_engine.call("state::list", {"scope": "a"})
            assert False
        """
    )
    done = pytester.runpytest_subprocess(*QUIET)
    done.assert_outcomes(failed=1)
    lines = [line for line in done.stdout.lines if "no call was struck" in line]
    assert lines == [
        f"no call was struck by the fault {one}" for one in ("fail state::gett", "lose_reply state::update")
    ]


def test_a_passing_test_shows_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_right(iii_engine):\n    iii_engine.state.set('a', 'k', 1)\n")
    done = pytester.runpytest_subprocess(*QUIET, "-rA")
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*iii engine*")


def test_the_same_tests_run_on_another_adapter(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_durable(iii_engine):
            iii_engine.state.set("a", "k", 1)
            iii_engine.faults.restart()
            assert iii_engine.state.get("a", "k") == 1
            assert iii_engine.config.state.adapter_name == "file"
        """
    )
    done = pytester.runpytest_subprocess(*QUIET, "--iii-adapter", "file", "--basetemp", "t")
    done.assert_outcomes(passed=1)
    assert list(Path(pytester.path, "t").rglob("iii-state/*"))


def test_tests_on_one_server_do_not_see_each_other(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("round", range(3))
        def test_alone(iii_engine, round):
            heard = []
            iii_engine.register_function("t::hear", lambda event: heard.append(event["new_value"]))
            iii_engine.register_trigger("state", "t::hear", {"scope": "a"})
            assert iii_engine.state.snapshot() == {}
            iii_engine.state.set("a", "k", round)
            assert iii_engine.events.expect(scope="a").new_value == round
            iii_engine.settle()
            assert heard == [round]
        """
    )
    url = shared().url
    config = json.dumps({"redis_url": url, "key_prefix": "{unique}"})
    done = pytester.runpytest_subprocess(*QUIET, "--iii-adapter", "redis", "--iii-adapter-config", config)
    done.assert_outcomes(passed=3)
    with redis.Redis.from_url(url) as client:
        assert client.keys("*test-*") == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--iii-adapter", "nosuch"), "*'nosuch'*"),
        (("--iii-adapter-config", "[1]"), "*takes a JSON object*"),
        (("--iii-adapter-config", "{"), "*is no JSON*"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    pytester: pytest.Pytester, options: tuple[str, str], says: str
) -> None:
    pytester.makepyfile("def test_it(iii_engine):\n    pass\n")
    done = pytester.runpytest_subprocess(*QUIET, *options)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([says])


def test_a_configuration_file_chooses_what_runs(pytester: pytest.Pytester) -> None:
    pytester.makefile(
        ".yaml", config="workers:\n  - name: iii-state\n    config:\n      adapter:\n        name: memory\n"
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def iii_config(request):
            return request.config.rootpath / "config.yaml"

        def test_it(iii_engine):
            iii_engine.state.set("a", "k", 1)
            with pytest.raises(RuntimeError, match="lists no iii-http"):
                iii_engine.http.get("/")
        """
    )
    pytester.runpytest_subprocess(*QUIET).assert_outcomes(passed=1)


def test_one_engine_for_all_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        talker="print('I am here', flush=True)\nimport time\ntime.sleep(60)\n",
        test_it="""
        import pytest

        @pytest.fixture(scope="session")
        def worker(iii_shared_worker):
            return iii_shared_worker("talker.py", functions=[])

        def test_first(iii_shared_engine):
            iii_shared_engine.state.set("a", "k", 1)

        def test_second(iii_shared_engine, iii_engine):
            assert iii_shared_engine.state.get("a", "k") == 1
            assert iii_engine.state.get("a", "k") is None

        def test_wrong(worker, iii_shared_engine):
            while "here" not in worker.output:
                pass
            assert False
        """,
    )
    done = pytester.runpytest_subprocess(*QUIET, "--iii-adapter", "file")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(
        ["*- iii engine -*", "*state:created*a / k*null -> 1", "*talker.py*", "I am here"]
    )


def test_engines_live_side_by_side_under_xdist(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("round", range(12))
        def test_alone(iii_engine, round):
            iii_engine.state.set("a", "k", round)
            assert iii_engine.state.snapshot() == {"a": {"k": round}}
            assert [event.new_value for event in iii_engine.events.all] == [round]
        """
    )
    pytester.runpytest_subprocess(*QUIET, "-n", "2").assert_outcomes(passed=12)


def test_a_callable_registers_through_the_sdk(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = next(python_sdk("0.25.0").parents[1].glob("lib/python*/site-packages"))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    pytester.makepyfile(
        """
        def register(iii):
            iii.register_function("sum::add", lambda data: {"sum": data["a"] + data["b"]})

        def test_it(iii_engine, iii_worker):
            assert iii_worker(register).functions == {"sum::add"}
            assert iii_engine.call("sum::add", {"a": 1, "b": 2}) == {"sum": 3}
        """
    )
    pytester.runpytest_subprocess(*QUIET).assert_outcomes(passed=1)


def test_a_callable_without_the_sdk_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_it(iii_worker):
            with pytest.raises(RuntimeError, match="pip install iii-sdk"):
                iii_worker(lambda iii: None)
        """
    )
    pytester.runpytest_subprocess(*QUIET).assert_outcomes(passed=1)


def test_a_run_without_engines_imports_none_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            ours = ("iii_skill", "msgspec", "picows")
            loaded = {name for name in sys.modules if name.split(".")[0] in ours}
            wanted = {"iii_skill", "iii_skill.testing", "iii_skill.testing.pytest_plugin"}
            assert loaded - {"iii_skill.testing.unique"} == wanted
        """
    )
    pytester.runpytest_subprocess(*QUIET).assert_outcomes(passed=1)
