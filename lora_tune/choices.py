"""What a verb's options may be, apart from the heavy rooms that carry them out."""

DTYPES = ("float32", "bfloat16", "float16")  # of a merged model's weights
COMBINATIONS = ("linear", "ties", "dare_linear", "dare_ties")  # of several adapters
INPUT_FORMATS = ("txt", "csv", "tsv", "jsonl", "json", "parquet")  # of rows to classify
OUTPUT_FORMATS = ("csv", "jsonl")
