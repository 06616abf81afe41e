"""Settings: one line says what is wrong, and no secret is printed."""

from pathlib import Path

import pytest

from gateway.config import (
    ConnectionSettings,
    DoorSettings,
    GatewayConfig,
    Limits,
    ModelSettings,
    TlsSettings,
    masked,
    read_config,
)
from gateway.errors import ConfigError


def read(tmp_path: Path, text: str, *, environment=None, **flags: object) -> GatewayConfig:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    return read_config(file, environment=environment or {}, flags=flags)


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    text = 'chain = "amoy"\nport = 1\nhost = "a"\n[limits]\nmax_gas = 30_000\nmax_fee_wei = 7\n'
    environment = {
        "IDML_GATEWAY_PORT": "2",
        "IDML_GATEWAY_HOST": "10",
        "IDML_GATEWAY_LIMITS__MAX_GAS": "40000",
        "IDML_GATEWAY_TLS__ON": "true",
        "OTHER": "x",
    }
    found = read(tmp_path, text, environment=environment, port=3, chain=None)
    assert (found.chain, found.port, found.host, found.tls.on) == ("amoy", 3, "10", True)
    assert found.limits == Limits(max_gas=40_000, max_fee_wei=7)


def test_a_chain_is_all_that_must_be_said() -> None:
    found = read_config(None, environment={}, flags={"chain": "anvil"})
    assert found.node_url == "http://127.0.0.1:8545"
    assert found.url == f"sqlite:///{found.data}/gateway.sqlite"
    assert read_config(None, environment={"IDML_GATEWAY_CHAIN": "amoy"}).node_url.startswith("https://")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("chian = 1", "unknown key chian; allowed: chain, connections, data"),
        ("[limits]\nmax_gass = 1", "unknown key limits.max_gass; allowed: all_requests_burst"),
        ("port = 70000", "port = 70000: input should be less than or equal to 65535"),
        ('port = "8547"', "port = '8547': input should be a valid integer"),
        ("port = true", "port = True: input should be a valid integer"),
        ("port = 1.5", "port = 1.5: input should be a valid integer"),
        ("port = 1979-05-27", "port = '1979-05-27': input should be a valid integer"),
        ("data = 5", "data = 5: input should be a valid string"),
        ("interval_s = 0", "interval_s = 0"),
        ("interval_s = nan", "interval_s"),
        ('chain = "mainet"', "chain = 'mainet': must be one of ganache, anvil, amoy, or an http(s) URL"),
        ('chain = "embedded"', "lives inside one simulation"),
        ('rpc_url = "ftp://x"', "rpc_url = 'ftp://x': must be an http(s) URL"),
        ('chain = "http://x"\nrpc_url = "http://y"', "chain is an RPC URL itself"),
        ('database_url = "nonsense"', "must be a SQLAlchemy URL"),
        ('database_url = "mysql://user:secret@x/y"', "must be a sqlite or postgresql URL"),
        ("limits = 5", "limits = 5: input should be an object"),
        ("[limits]\nmax_gas = 5", "limits.max_gas = 5: input should be greater than or equal to 21000"),
        ('host = ""', "host = ''"),
        ('[door]\naccess = "ajar"', "door.access = 'ajar': input should be 'open' or 'enrolled'"),
        ("[door]\nacces = 1", "unknown key door.acces; allowed: access"),
        ('[tls]\nkey = "k.pem"', "tls = {'key': 'k.pem'}: key goes with a certificate"),
        ("[tls]\nnames = ['']", "tls.names = ['']: a name is a host name or an address"),
        ("nonsense", "not TOML"),
    ],
)
def test_a_bad_setting_is_one_line_with_file_key_and_value(tmp_path: Path, text: str, says: str) -> None:
    if "chain" not in text.split("\n", maxsplit=1)[0]:
        text = 'chain = "anvil"\n' + text
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    shown = str(caught.value)
    assert shown.startswith(f"{tmp_path / 'gateway.toml'}: ")
    assert says in shown
    assert "\n" not in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"IDML_GATEWAY_PORT": "many"}, "IDML_GATEWAY_PORT: port = 'many'"),
        ({"IDML_GATEWAY_PROT": "1"}, "IDML_GATEWAY_PROT: unknown key prot"),
        ({"IDML_GATEWAY_LIMITS__MAX_GAS": "5"}, "IDML_GATEWAY_LIMITS__MAX_GAS: limits.max_gas = 5"),
        ({"IDML_GATEWAY_PORT__X": "5"}, "IDML_GATEWAY_PORT__X: unknown key"),
        ({"IDML_GATEWAY_CHAIN": "x"}, "IDML_GATEWAY_CHAIN: chain = 'x'"),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, environment: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, 'chain = "anvil"\nport = 5\n', environment=environment)
    assert str(caught.value).startswith(says)


def test_a_bad_flag_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--port: port = 70000"):
        read_config(None, environment={}, flags={"port": 70_000, "chain": "anvil"})
    with pytest.raises(ConfigError, match="--chain"):
        read_config(None, environment={})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: there is no such file"):
        read_config(tmp_path / "nowhere.toml", environment={})
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path, environment={})
    (tmp_path / "latin.toml").write_bytes(b"chain = '\xe9'")
    with pytest.raises(ConfigError, match="not TOML"):
        read_config(tmp_path / "latin.toml", environment={})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("https://rpc.example/v2/KEY", "https://rpc.example/***"),
        ("https://rpc.example/?apikey=KEY", "https://rpc.example/***"),
        ("https://rpc.example?apikey=KEY", "https://rpc.example?***"),
        ("https://u:KEY@rpc.example:1/KEY", "https://***@rpc.example:1/***"),
        ("postgresql+psycopg://u:KEY@db/idml?password=KEY", "postgresql+psycopg://***@db/idml?***"),
        ("postgresql://u:K/EY@db/idml", "postgresql://***@db/idml"),
        ("sqlite:////var/lib/g.sqlite", "sqlite:////var/lib/g.sqlite"),
        (5, "5"),
    ],
)
def test_secrets_are_masked(value: object, shown: str) -> None:
    assert masked(value) == shown


def test_the_effective_settings_show_every_key_and_no_secret() -> None:
    config = GatewayConfig(chain="https://u:KEY@rpc.example/KEY", database_url="postgresql://u:KEY@db/idml")
    shown = list(config.shown())
    assert "KEY" not in "".join(shown)
    inner = {
        "limits": Limits,
        "models": ModelSettings,
        "door": DoorSettings,
        "connections": ConnectionSettings,
        "tls": TlsSettings,
    }
    keys = {line.split(" = ")[0] for line in shown}
    assert keys == (set(GatewayConfig.model_fields) - set(inner)) | {
        f"{table}.{one}" for table, model in inner.items() for one in model.model_fields
    }
