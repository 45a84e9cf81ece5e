"""`.env.example` names every setting that there is, and no other."""

import re

import pytest

from bentos.classifier.settings import ServiceSettings
from flywheel.settings import Settings
from tests.conftest import ROOT

NAMED = set(re.findall(r"^# (FLYWHEEL_[A-Z0-9_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
SETTINGS = {
    f"{kind.model_config['env_prefix']}{name}".upper()
    for kind in (Settings, ServiceSettings)
    for name in kind.model_fields
}


def test_every_setting_is_documented_and_no_other() -> None:
    assert NAMED == SETTINGS


@pytest.mark.parametrize("kind", [Settings, ServiceSettings])
def test_the_defaults_stand_in_the_file(kind: type[Settings] | type[ServiceSettings]) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name, field in kind.model_fields.items():
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert f"{kind.model_config['env_prefix']}{name.upper()}={field.default:g}\n" in text or (
                f"{kind.model_config['env_prefix']}{name.upper()}={field.default}\n" in text
            )
