"""`dnabert2 convert`: any readable model, from the hub or from disk, as a safe model folder."""

from dnabert2_jax.cli.arguments import Parser, add_model_arguments

_EXAMPLES = """examples:
  dnabert2 convert --model zhihan1996/DNABERT-2-117M --output dnabert2
  dnabert2 convert --model classifier/adapter --output merged

The folder holds config.json, model.safetensors, the tokenizer and a README.md, in the released layout. The
released PyTorch code loads it as it is. A pytorch_model.bin is read without running what is in it. Of a LoRA
adapter the folder holds the base model with the adapter merged into it."""


def main(words: list[str]) -> None:
    """Parses and runs."""
    parser = Parser(
        "dnabert2 convert", description="Writes a model as a model folder in safetensors.", epilog=_EXAMPLES
    )
    add_model_arguments(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="type of the stored numbers (default float32, which loses nothing)",
    )
    arguments = parser.parse_args(words)

    from pathlib import Path

    from dnabert2_jax.files import refuse_existing
    from dnabert2_jax.inference.loading import from_pretrained

    refuse_existing(Path(arguments.output))
    model = from_pretrained(arguments.model, revision=arguments.revision)
    # The card may be published, and where a folder lies here is nobody's business.
    source = Path(arguments.model).resolve().name if Path(arguments.model).is_dir() else arguments.model
    source += f" at {arguments.revision}" if arguments.revision else ""
    model.save_pretrained(arguments.output, facts={"converted from": source}, dtype=arguments.dtype)
    numbers = sum(array.size for array in model.parameters.values())
    print(f"{arguments.output}: {numbers:,} parameters in {arguments.dtype}")
