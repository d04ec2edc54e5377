import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnabert2_jax.data.holdout import RegionMap, SpeciesContigs, plan_holdout, plan_validation
from dnabert2_jax.data.layout import BuildSettings, ValidationRegion
from dnabert2_jax.errors import UserError

lengths = st.lists(st.integers(0, 3_000_000), min_size=1, max_size=8)


@given(lengths, st.floats(0.001, 0.5), st.integers(500, 100_000))
def test_regions_lie_inside_of_contigs_and_apart(lengths, share, region_bases):
    contigs = [(f"c{i}", length) for i, length in enumerate(lengths)]
    regions = plan_validation("s", contigs, share, region_bases)
    for name, length in contigs:
        intervals = [(region.start, region.end) for region in regions if region.contig == name]
        assert intervals == sorted(intervals)
        borders = [border for interval in intervals for border in interval]
        assert borders == sorted(borders)
        assert all(0 <= border <= length for border in borders)


def test_a_large_contig_gives_its_share_in_regions_spread_over_it():
    regions = plan_validation("s", [("chr1", 10_000_000), ("tiny", 30_000)], 0.05, 20_000)
    assert len(regions) == 25
    assert sum(region.end - region.start for region in regions) == 500_000
    assert [region.start * 25 // 10_000_000 for region in regions] == list(range(25))
    assert {region.contig for region in regions} == {"chr1"}


def test_regions_differ_between_species_and_repeat_for_one():
    plans = [plan_validation(species, [("chr1", 10**6)], 0.05, 20_000) for species in ("a", "a", "b")]
    assert plans[0] == plans[1]
    assert [region.start for region in plans[0]] != [region.start for region in plans[2]]


def test_a_fragmented_genome_gives_whole_contigs():
    contigs = [(f"c{i}", 1_000 + i) for i in range(100)]
    regions = plan_validation("s", contigs, 0.05, 20_000)
    held_out = sum(region.end - region.start for region in regions)
    total = sum(length for _, length in contigs)
    assert 0.05 * total <= held_out < 0.05 * total + 1_100
    assert all((region.contig, region.end) in contigs and region.start == 0 for region in regions)


def test_something_stays_for_training():
    assert len(plan_validation("s", [("a", 1_000), ("b", 10)], 0.5, 20_000)) == 1


def test_one_short_contig_gives_its_end():
    assert plan_validation("s", [("virus", 10_000)], 0.05, 20_000) == [
        ValidationRegion(species="s", contig="virus", start=9_500, end=10_000)
    ]


@given(st.lists(st.integers(0, 100), min_size=2, max_size=10, unique=True), st.data())
def test_the_map_finds_what_overlaps(borders, data):
    borders = sorted(borders)
    regions = [
        ValidationRegion(species="s", contig="c", start=start, end=end)
        for start, end in zip(borders[::2], borders[1::2], strict=False)
    ]
    start = data.draw(st.integers(0, 100))
    end = data.draw(st.integers(start + 1, 101))
    overlapping = [i for i, region in enumerate(regions) if region.start < end and start < region.end]
    found = RegionMap(regions).touched("s", "c", start, end)
    assert found == (overlapping[-1] if overlapping else -1)
    assert RegionMap(regions).touched("s", "other", start, end) == -1
    assert RegionMap(regions).cuts("s") == {"c": borders[: len(regions) * 2]}


CHROMOSOMES = [("chrI", 230_000), ("chrII", 800_000), ("chrIV", 1_500_000), ("chrM", 80_000)]


def held_out(species: list[SpeciesContigs], **settings) -> dict[str, set[str]]:
    """For each species the contigs that are held out from end to end."""
    lengths = {(kind.species, name): length for kind in species for name, length in kind.contigs}
    found: dict[str, set[str]] = {}
    for region in plan_holdout(species, BuildSettings(**settings)):
        assert (region.start, region.end) == (0, lengths[region.species, region.contig])
        found.setdefault(region.species, set()).add(region.contig)
    return found


class TestChromosomes:
    def test_named_ones_are_held_out_wherever_they_are(self):
        species = [
            SpeciesContigs("a", "auto", CHROMOSOMES),
            SpeciesContigs("b", "auto", [*CHROMOSOMES, ("chrXI", 700_000)]),
            SpeciesContigs("c", "auto", [("plasmid", 5_000)]),
            SpeciesContigs("d", "train", CHROMOSOMES),
        ]
        found = held_out(species, holdout="chromosome", holdout_contigs=("chrIV", "chrXI"))
        assert found == {"a": {"chrIV"}, "b": {"chrIV", "chrXI"}}

    def test_a_name_that_no_genome_has(self):
        species = [SpeciesContigs("a", "auto", CHROMOSOMES)]
        with pytest.raises(UserError, match="'chr4' is to be held out and no genome has it"):
            held_out(species, holdout="chromosome", holdout_contigs=("chrIV", "chr4"))

    @pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
    def test_others_are_drawn_until_the_share_is_reached(self, share):
        lengths = dict(CHROMOSOMES)
        for name in "abcdefgh":
            species = [SpeciesContigs(name, "auto", CHROMOSOMES)]
            chosen = held_out(species, holdout="chromosome", validation_share=share)[name]
            assert chosen < {"chrI", "chrII", "chrIV"}  # chrM is too short, and one of them stays
            sizes = sorted(lengths[contig] for contig in chosen)
            assert sum(sizes) >= share * sum(lengths.values()) or len(chosen) == 2
            assert sum(sizes) - sizes[-1] < share * sum(lengths.values())

    def test_a_single_chromosome_stays_in_training(self):
        assert held_out([SpeciesContigs("a", "auto", [("chr", 10**6)])], holdout="chromosome") == {}


SPECIES = [SpeciesContigs(f"s{i}", "auto", [("one", 10**6), ("two", 10**5)]) for i in range(20)]


class TestSpecies:
    def test_those_that_are_marked(self):
        marked = SpeciesContigs("m", "validation", [("one", 10), ("none", 0), ("two", 20)])
        assert held_out([*SPECIES, marked], holdout="species") == {"m": {"one", "two"}}

    def test_a_marked_species_is_held_out_beside_the_regions_of_others(self):
        marked = SpeciesContigs("m", "validation", [("one", 10**6)])
        regions = plan_holdout([SPECIES[0], marked], BuildSettings())
        assert {region.species for region in regions} == {"s0", "m"}
        assert sum(region.end - region.start for region in regions if region.species == "s0") == 55_000

    def test_or_some_until_the_share_is_reached(self):
        assert len(held_out(SPECIES, holdout="species", validation_share=0.1)) == 2
        assert len(held_out(SPECIES, holdout="species", validation_share=0.01)) == 1

    def test_one_species_alone_cannot_be(self):
        with pytest.raises(UserError, match="one species alone"):
            held_out(SPECIES[:1], holdout="species")
