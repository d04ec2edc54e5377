"""What a fine-tuned model predicts, in the words of the released config.json: one of three problems."""

from typing import Literal

type Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
