"""The colours of pages and plots, in a light and a dark version; a page declares them as CSS variables.

The series follow Okabe and Ito (2008), which stay apart under the common colour blindnesses, shifted in
lightness so that each has a contrast of at least 3 to 1 with its paper.
"""

PAPER = ("#ffffff", "#15181c")
INK = ("#1c2024", "#e6e8eb")
# Behind text: INK stays readable on the strongest shade.
HEAT = ("#6db3e2", "#1d5f96")
SERIES = (
    ("#0072b2", "#4ba3e3"),
    ("#c85200", "#f28e4b"),
    ("#00886a", "#35c49a"),
    ("#b8588c", "#e39cc6"),
    ("#a67c00", "#e6b422"),
    ("#2f93c9", "#9ed8f7"),
    ("#7b4fb0", "#b79cf0"),
    ("#6b7178", "#a9b0b8"),
)


def css_variables(*, dark: bool) -> str:
    """The declarations of --paper, --ink, --heat and --series-1 to --series-8."""
    named = {"paper": PAPER, "ink": INK, "heat": HEAT}
    named |= {f"series-{place}": pair for place, pair in enumerate(SERIES, start=1)}
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in named.items())


def css_references() -> dict[str, str]:
    """What a plot drawn in light colours writes in place of each, so that it follows its page.

    Ink becomes the colour of the text around the plot; the others fall back on the light colour where no
    page declares them.
    """
    references = {INK[0]: "currentColor", PAPER[0]: f"var(--paper, {PAPER[0]})"}
    references[HEAT[0]] = f"var(--heat, {HEAT[0]})"
    for place, (light, _) in enumerate(SERIES, start=1):
        references[light] = f"var(--series-{place}, {light})"
    return references
