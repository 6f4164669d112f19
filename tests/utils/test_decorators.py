"""Decorators that NeMo 0.10's users know."""

import re

from nemo.utils.decorators import add_port_docs, deprecated


def warnings_of(capsys) -> list[str]:
    """What was warned of, without the time."""
    lines = capsys.readouterr().err.splitlines()
    return [re.sub(r"\[NeMo W \S+ \S+ deprecated:\d+\] ", "", line) for line in lines]


def test_a_deprecated_function_warns_once_and_does_its_work(capsys):
    @deprecated
    def double(x):
        """Twice x."""
        return 2 * x

    assert [double(2), double(x=3)] == [4, 6]
    assert warnings_of(capsys) == ["Function ``double`` is deprecated."]
    assert (double.__name__, double.__doc__) == ("double", "Twice x.")


def test_each_deprecated_function_warns_for_itself(capsys):
    functions = [deprecated(lambda: None) for _ in range(2)]
    for function in functions:
        function()
    assert len(warnings_of(capsys)) == 2


def test_version_and_explanation_are_logged(capsys):
    @deprecated(version=0.2, explanation="Use ``new`` instead.")
    def old():
        return "old"

    assert old() == "old"
    assert warnings_of(capsys) == [
        "Function ``old`` is deprecated. It is going to be removed in the 0.2 version. Use ``new`` instead."
    ]


def test_documented_ports_are_the_ports():
    ports = {"x": object()}

    class Module:
        @property
        @add_port_docs()
        def input_ports(self):
            """What comes in."""
            return ports

        @property
        @add_port_docs
        def output_ports(self):
            return ports

    assert Module().input_ports is Module().output_ports is ports
    assert Module.input_ports.__doc__ == "What comes in.\n\nMaps the name of each port to its NeuralType."
