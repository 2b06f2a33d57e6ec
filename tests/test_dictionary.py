"""The data dictionary is current and complete."""

from schemas.contract import descriptions
from schemas.dictionary import PATH, dictionary
from schemas.events import FAMILIES
from schemas.marts import MARTS
from schemas.projections import PROJECTIONS, IngestLedger, RejectedRow


def test_the_data_dictionary_is_what_the_contracts_say():
    assert PATH.read_text("utf-8") == dictionary(), "run `make docs`"


def test_every_column_says_what_it_means():
    contracts = (*FAMILIES.values(), *MARTS, *PROJECTIONS, IngestLedger, RejectedRow)
    silent = {f"{each.__name__}.{name}" for each in contracts for name, told in descriptions(each).items() if not told}
    assert not silent
