"""Configuration files as their authors meet them: every mistake is named by path and line, all at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.contracts.config import Config
from pointsman.contracts.config_file import MAX_BYTES, ConfigError, dump_config, load_config, parse_config
from pointsman.contracts.modes import Mode

GOOD = """\
pools:
  - name: fast
    model: small
    modes: [no_think]
    engine: vllm
    urls: ["http://127.0.0.1:8001"]
    prices: {input: 0.1, output: 0.4}
"""


def problems_of(text: str) -> dict[str, str]:
    """Path and message of each problem in the configuration `text`."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="fleet.yaml", folder=Path("/fleet"))
    return {problem.path: problem.message for problem in caught.value.problems}


def message_of_file(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def with_pool_field(line: str) -> str:
    return GOOD + f"    {line}\n"


def test_a_good_file_loads(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(GOOD)
    config = load_config(file)
    assert config.pools[0].modes == (Mode.NO_THINK,)
    assert str(config.pools[0].prices.input) == "0.1"


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
pools:
  - name: fast
    model: small
    modes: [no_thinking]
    engine: vllm
    prices: {input: 0.1}
  - name: UPPER
    model: small
    modes: [think]
    engine: vllm
    prices: {input: -1, output: 0.4}
rooter: {}
"""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="fleet.yaml", folder=Path("/fleet"))
    assert str(caught.value) == (
        "fleet.yaml: 5 errors\n"
        "  pools[0].modes[0]: must be think or no_think, not no_thinking (line 4)\n"
        "  pools[0].prices.output: field required (line 6)\n"
        "  pools[1].name: must be 1 to 63 lower-case letters, digits, dots, dashes or underscores, "
        "with a letter or digit at both ends (line 7)\n"
        "  pools[1].prices.input: must be greater than or equal to 0, not -1 (line 11)\n"
        "  rooter: unknown field; did you mean `router`? (line 12)"
    )


@pytest.mark.parametrize(
    ("line", "path", "message"),
    [
        ("replica: 2", "replica", "unknown field; did you mean `replicas`?"),
        ("capabilities: {tool: true}", "capabilities.tool", "unknown field; did you mean `tools`?"),
        (
            "autoscaling: {zzz: 1}",
            "autoscaling.zzz",
            "unknown field; the fields here are min_replicas, max_replicas, target_requests, target_tokens, "
            "upscale_delay, downscale_delay, downscale_to_zero_delay",
        ),
        ("replicas: '2'", "replicas", "must be a whole number, not '2'"),
        ("replicas: 1.5", "replicas", "must be a whole number, not 1.5"),
        ("replicas: true", "replicas", "must be a whole number, not true"),
        ("replicas:", "replicas", "must be a whole number, not nothing"),
        ("place_timeout: soon", "place_timeout", "must be a number, not 'soon'"),
        ("place_timeout: .inf", "place_timeout", "must be a finite number, not inf"),
        ("place_timeout: 86401", "place_timeout", "must be less than or equal to 86400, not 86401"),
        ("place_timeout: 0", "place_timeout", "must be greater than 0, not 0"),
        ("served_model_name: 1.5", "served_model_name", "must be text, not 1.5; put it in quotes"),
        ("served_model_name: no", "served_model_name", "must be text, not false; put it in quotes"),
        ("served_model_name: ''", "served_model_name", "must not be empty"),
        ("capabilities: {tools: 1}", "capabilities.tools", "must be true or false, not 1"),
        ("capabilities: all", "capabilities", "must be a mapping (lines of `key: value`), not 'all'"),
        ("capabilities: {context: 63}", "capabilities.context", "must be greater than or equal to 64, not 63"),
        ("tool_call_parser: [a]", "tool_call_parser", "must be text, not a list"),
        ("family: gpt", "family", None),
        (
            "engine_args: {a: {b: [1, !!binary aGk=]}}",
            "engine_args.a.b[1]",
            "must be text, a number, true, false, a list or a mapping",
        ),
    ],
)
def test_a_wrong_field_is_named_by_path(line: str, path: str, message: str | None) -> None:
    problems = problems_of(with_pool_field(line))
    found = problems[f"pools[0].{path}"]
    if message is None:
        assert found.startswith("must be plain, qwen3, deepseek")
    else:
        assert found == message
    assert set(problems) == {f"pools[0].{path}"}


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ("true", "must be a number"),
        ("free", "must be a number, not 'free'"),
        (".nan", "must be a finite number, not nan"),
        ("1000001", "must be less than or equal to 1000000, not 1000001"),
        ("0.0000000001", "must have no more than 9 decimal places, not 1e-10"),
    ],
)
def test_a_wrong_price_is_named(price: str, message: str) -> None:
    assert problems_of(GOOD.replace("input: 0.1", f"input: {price}")) == {"pools[0].prices.input": message}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("[1, 2]", "must be a mapping (lines of `key: value`) (line 1)"),
        ("pools: fast", "pools: must be a list, not 'fast' (line 1)"),
        ("pools:\n  - [a", "not YAML: expected ',' or ']', but got '<stream end>' (line 2, column 7)"),
        ("a: 1\n b: 2", "not YAML: mapping values are not allowed here (line 2, column 3)"),
        ("pools:\n\t- a", "not YAML: found character '\\t' that cannot start any token (line 2, column 1)"),
        ("a: *unknown", "not YAML: found undefined alias 'unknown' (line 1, column 4)"),
        ("a: 1\n---\nb: 2", "not YAML: but found another document (line 2, column 1)"),
        ("a: !!python/object/apply:os.system [x]", None),
        ("a: !!int x", None),
        ("a: 1\na: 2", "a: this key is already given on line 1 (line 2)"),
        ("pools:\n  - name: a\n    name: b", "pools[0].name: this key is already given on line 2 (line 3)"),
        ("? [1, 2]\n: 3", "a key must be plain text (line 1)"),
        ("a: &a [*a]", "the YAML is nested too deeply (line 1)"),
        ("[" * 20_000, "the YAML is nested too deeply"),
        ("a: \x01", "the file holds a character that YAML forbids (#x0001) (line 1)"),
        ("\ud800", None),
    ],
)
def test_a_file_that_is_no_configuration_says_why_in_one_sentence(text: str, message: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="fleet.yaml", folder=Path("/fleet"))
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    if message is not None:
        assert str(caught.value) == f"fleet.yaml: {message}"


def test_aliases_that_multiply_are_refused_before_they_are_built() -> None:
    levels = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 100,000 values"):
        parse_config("\n".join(levels), source="bomb.yaml", folder=Path("/"))


def test_anchors_and_merge_keys_are_welcome() -> None:
    text = GOOD.replace("fast", "one").replace("  - name", "  - &one\n    name") + "  - <<: *one\n    name: two\n"
    config = parse_config(text, source="fleet.yaml", folder=Path("/"))
    assert [pool.name for pool in config.pools] == ["one", "two"]
    assert config.pools[0].prices == config.pools[1].prices


def test_text_that_looks_like_a_date_stays_text() -> None:
    config = parse_config(with_pool_field("served_model_name: 2026-01-31"), source="fleet.yaml", folder=Path("/"))
    assert config.pools[0].served_model_name == "2026-01-31"


class TestTheFileItself:
    def test_missing(self, tmp_path: Path) -> None:
        assert message_of_file(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: there is no such file"

    def test_a_folder(self, tmp_path: Path) -> None:
        assert message_of_file(tmp_path) == f"{tmp_path}: this is a folder, not a file"

    def test_not_readable(self, tmp_path: Path) -> None:
        file = tmp_path / "loop.yaml"
        file.symlink_to(file)  # refused whoever runs the tests, root included
        assert "the file cannot be read: too many levels of symbolic links" in message_of_file(file)

    def test_too_large(self, tmp_path: Path) -> None:
        file = tmp_path / "big.yaml"
        file.write_bytes(b"#" * (MAX_BYTES + 1))
        assert message_of_file(file) == f"{file}: the file is larger than 1,048,576 bytes"

    def test_not_text(self, tmp_path: Path) -> None:
        file = tmp_path / "latin.yaml"
        file.write_bytes("pools:\n  - name: é".encode("latin-1"))
        assert message_of_file(file) == f"{file}: the file is not UTF-8 text (line 2)"

    def test_a_byte_order_mark_is_no_mistake(self, tmp_path: Path) -> None:
        file = tmp_path / "bom.yaml"
        file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
        assert load_config(file).pools[0].name == "fast"


class TestRelativePaths:
    def load(self, tmp_path: Path, *lines: str) -> Config:
        text = GOOD.replace("vllm", "sglang").replace('    urls: ["http://127.0.0.1:8001"]\n', "")
        file = tmp_path / "fleet.yaml"
        file.write_text(text + "".join(f"    {line}\n" for line in lines) + "predictor: weights/mine.npz\n")
        return load_config(file)

    def test_files_start_from_the_folder_of_the_configuration(self, tmp_path: Path) -> None:
        config = self.load(tmp_path, "model_path: ./weights", "chat_template: templates/think.jinja")
        assert config.pools[0].model_path == f"{tmp_path}/weights"
        assert config.pools[0].chat_template == f"{tmp_path}/templates/think.jinja"
        assert config.predictor == f"{tmp_path}/weights/mine.npz"

    def test_the_home_folder_is_known(self, tmp_path: Path) -> None:
        config = self.load(tmp_path, "model_path: ~/weights", "chat_template: ~/think.jinja")
        assert config.pools[0].model_path == os.path.expanduser("~/weights")
        assert config.pools[0].chat_template == os.path.expanduser("~/think.jinja")

    @pytest.mark.parametrize("name", ["local:smollm2", "Qwen/Qwen3-8B", "/srv/weights"])
    def test_hub_names_absolute_paths_and_our_own_names_stay(self, tmp_path: Path, name: str) -> None:
        config = self.load(tmp_path, f"model_path: {name}", "chat_template: builtin:think")
        assert config.pools[0].model_path == name
        assert config.pools[0].chat_template == "builtin:think"


def test_a_key_pasted_for_its_digest_is_never_repeated() -> None:
    key = "pk-3VtY9nbqXkQm2LrT7aWcEfGhJ4sDpZ8uCvB1xNyRoKiAAAAAA"
    text = GOOD + f"tenants:\n  - name: acme\n    key_digests: [{key}]\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="fleet.yaml", folder=Path("/"))
    assert key not in str(caught.value)
    assert "never the key itself" in str(caught.value)


names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True)
model_names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,10}[A-Za-z0-9])?", fullmatch=True)
dollars = st.decimals(min_value=0, max_value=1_000_000, places=9, allow_nan=False)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
seconds = st.floats(min_value=1e-6, max_value=86_400, allow_nan=False)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
prices = st.fixed_dictionaries(
    {"input": dollars, "output": dollars}, optional={"cached_input": dollars, "reasoning": dollars}
)


@st.composite
def fleets(draw: st.DrawFn) -> Config:
    """Any configuration that the schema accepts, with a model of its own for each pool."""
    pools = []
    models = draw(st.lists(model_names, min_size=1, max_size=3, unique=True))
    for number, model in enumerate(models):
        thinks = draw(st.booleans())
        pools.append(
            {
                "name": f"pool{number}",
                "model": model,
                "modes": ["think"] if thinks else ["no_think"],
                "engine": "simulated",
                "prices": draw(prices),
                "engine_args": draw(st.dictionaries(texts, json_values, max_size=3)),
                "place_timeout": draw(seconds),
                "replicas": draw(st.integers(0, 9)),
                "licence_notice": draw(st.none() | texts),
                "thinking_budget": draw(st.none() | st.integers(1, 4000)) if thinks else None,
                "autoscaling": draw(st.none() | st.just({"min_replicas": 0, "max_replicas": 4})),
            }
        )
    tenants = [
        {
            "name": name,
            "key_digests": [digest],
            "models": draw(st.none() | st.just([models[0]])),
            "policy": {"threshold": draw(st.floats(0, 1)), "default_mode": draw(st.sampled_from(list(Mode)))},
        }
        for name, digest in draw(
            st.lists(st.tuples(names, digests), max_size=3, unique_by=(lambda t: t[0], lambda t: t[1]))
        )
    ]
    router = {"body_timeout": draw(seconds), "metrics_access": draw(st.sampled_from(["admin", "open"]))}
    return Config.model_validate({"pools": pools, "tenants": tenants, "router": router})


@settings(max_examples=40)
@given(fleets())
def test_what_is_dumped_reads_back_equal(config: Config) -> None:
    assert parse_config(dump_config(config), source="dump", folder=Path("/")) == config


def test_a_dump_shows_prices_as_people_write_them() -> None:
    text = GOOD.replace("input: 0.1", "input: 0.000000001").replace("output: 0.4", "output: 1000000")
    dumped = dump_config(parse_config(text, source="fleet.yaml", folder=Path("/")))
    assert "input: 0.000000001\n" in dumped
    assert "output: 1000000\n" in dumped


def test_the_local_fleet_loads() -> None:
    import pointsman.cli

    config = load_config(Path(pointsman.cli.__file__).parent / "local.yaml")
    assert [(pool.name, pool.modes) for pool in config.pools] == [
        ("fast", (Mode.NO_THINK,)),
        ("deep", (Mode.THINK,)),
    ]
