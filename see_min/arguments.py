"""The command line: which commands there are and what each takes."""

import argparse


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def number(text):
    """A ratio as int where it is whole, so that 10 is shown as 10."""
    value = float(text)
    return int(value) if value.is_integer() else value


def parser():
    """The command line."""
    top = Parser(prog="python -m see_min", description="SEE: sememe entanglement encoding for transformer compression")
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    _compress_parser(commands)
    _evaluate_parser(commands)
    seeds = commands.add_parser("seeds", help="mean and range over runs of compress that differ in the seed")
    seeds.add_argument("reports", nargs="+", metavar="DIR", help="what compress was given as --out")
    _compare_parser(commands)
    _explain_parser(commands)
    _bench_parser(commands)
    hownet = commands.add_parser("hownet", help="look at HowNet's data, or download them")
    hownet.add_argument("--download", action="store_true", help="let OpenHowNet download the data, and check them")
    hownet.add_argument("--folder", metavar="DIR", help="where the data are (default: ~/.openhownet)")
    morphology = commands.add_parser("morphology", help="how well morphemes fall where annotators cut words")
    morphology.add_argument("gold", metavar="FILE", help="word TAB morphemes, or JSON; .gz too")
    morphology.add_argument("--segmentation", metavar="FILE", help="rate this one (default: Morfessor, trained on the words)")
    morphology.add_argument("--key", help="which object of a JSON segmentation")
    morphology.add_argument("--vocabulary", metavar="FILE", help="words to train on and rate (default: those of the gold file)")
    morphology.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    return top


def _compress_parser(commands):
    job = commands.add_parser(
        "compress", help="train a small model, compress its embeddings and tied head, finetune, report",
        description="Train a small GPT on real text, compress its embedding and tied output head with SEE and four other "
                    "methods at equal floats, finetune all of them alike in two stages, and show what was gained and lost. "
                    "--task says mlm for a small BERT on masked words, translation for a small translator on a parallel text. "
                    "With PATH, compress and finetune the model in that folder instead.",
    )
    job.add_argument("path", nargs="?", metavar="PATH",
                     help="a folder of a Hugging Face model, or all-MiniLM-L6-v2; needs --corpus or --parallel")
    job.add_argument("--task", choices=("lm", "mlm", "translation", "encoder"),
                     help="next words, masked words, a translation, or (PATH alone) sentences (default: lm; with PATH: encoder)")
    data = job.add_argument_group("data")
    data.add_argument("--corpus", metavar="FILE", help="UTF-8 text (default: the docstrings of installed packages)")
    data.add_argument("--lexicon", metavar="NAME", help="what words mean: sample (default), none, openhownet, a folder, a file, "
                      "or several joined by +")
    data.add_argument("--vocabulary", type=int, metavar="V", help="words of the model at most (default: 4000; of each language "
                      "of a translation: 8000)")
    _translation_arguments(job)
    method = job.add_argument_group("method")
    method.add_argument("--ratios", type=number, nargs="+", metavar="R", help="dense floats / kept floats (default: 10 40)")
    method.add_argument("--order", type=int, metavar="N", help="factors of a product in the default form (default: 2)")
    method.add_argument("--policy", metavar="NAME", help="additive (default), superposed (default of a translation and with "
                        "PATH), amplitudes, shared, backoff, undealt, morphemes, mixed, senses or terms")
    method.add_argument("--paper-order", type=int, metavar="N", help="factors in the papers' form (default: 3)")
    method.add_argument("--paper-policy", metavar="NAME", help="slots of the papers' form (default: senses)")
    method.add_argument("--also", nargs="+", metavar="NAME", help="further policies to run beside the five methods")
    method.add_argument("--sweeps", type=int, metavar="N", help="sweeps of the fit (default: 20; translation: 10)")
    model = job.add_argument_group("model and training")
    model.add_argument("--dimension", type=int, metavar="D", help="width of the model (default: 192)")
    model.add_argument("--blocks", type=int, metavar="N", help="transformer blocks (default: 2)")
    model.add_argument("--teacher-steps", type=int, metavar="N", help="training steps of the dense model (default: 700; "
                       "translation: 4000)")
    model.add_argument("--teacher", metavar="FILE.pt", help="a dense model to start from: OUT/phases/teacher.pt of a run")
    model.add_argument("--stage1-steps", type=int, metavar="N", help="steps on embeddings and hidden states (default: 15; "
                       "translation: 30)")
    model.add_argument("--stage2-steps", type=int, metavar="N", help="steps of distillation and cross entropy (default: 85; "
                       "translation: 170)")
    model.add_argument("--seed", type=int, metavar="N", help="default: 0")
    model.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    _pretrained_arguments(job)
    job.add_argument("--out", default="out", metavar="DIR", help="report, figure and checkpoints (default: out)")
    job.add_argument("--quick", action="store_true", help="a small version of everything, under a minute")
    job.add_argument("--resume", action="store_true", help="go on after the phases that a stopped run finished")


def _translation_arguments(job):
    """What `compress` takes for a translation."""
    pairs = job.add_argument_group("with --task translation alone (--parallel with PATH, too)")
    pairs.add_argument("--parallel", nargs=2, metavar=("SOURCE", "TARGET"), help="sentences and their translations, a line each, "
                       "words between blanks, plain or .gz; BLEU needs sacrebleu (extra: translation)")
    pairs.add_argument("--valid-parallel", nargs=2, metavar=("SOURCE", "TARGET"), help="what BLEU is measured on (default: every "
                       "20th pair, held out)")
    pairs.add_argument("--least", type=int, metavar="N", help="occurrences a word must have (default: 2)")
    pairs.add_argument("--source-lexicon", metavar="NAME",
                       help="lexicon of the source's language, none, or aligned: the senses of a word's translations, which the "
                            "pairs tell (default: --lexicon)")
    pairs.add_argument("--shared-vocabulary", action="store_true", default=None, help="one embedding for both languages")


def _pretrained_arguments(job):
    """What `compress` takes for a model in a folder."""
    real = job.add_argument_group("with PATH alone")
    real.add_argument("--sts", metavar="FILE", help="sentence,sentence,score as CSV: the measure of an encoder")
    real.add_argument("--methods", nargs="+", metavar="NAME", help="as those of compare (default: see weighted-svd)")
    real.add_argument("--batch", type=int, metavar="N", help="rows of a batch (default: 32)")
    real.add_argument("--context", type=int, metavar="N", help="positions of a row at most (default: 64)")
    real.add_argument("--rate", type=float, metavar="X", help="peak learning rate of stage 2 (default: 5e-5)")
    real.add_argument("--leaf-rate", type=float, metavar="X", help="the same for the compressed embedding (default: 5e-4)")
    real.add_argument("--accumulate", type=int, metavar="N", help="parts of a batch, one after the other (default: 1)")
    real.add_argument("--bf16", action="store_true", default=None, help="compute in bfloat16 where autocast does")


def _evaluate_parser(commands):
    command = commands.add_parser("evaluate", help="measure a model in a folder, plain or compressed, or a checkpoint")
    command.add_argument("path", metavar="PATH", help="a folder of a Hugging Face model, or one that compress PATH wrote; or a "
                         "checkpoint, FILE.pt, that compress wrote without PATH")
    command.add_argument("--task", choices=("lm", "mlm", "encoder", "translation"),
                         help="of a folder: perplexity, accuracy on masked words, Spearman's correlation (default), or BLEU")
    command.add_argument("--corpus", metavar="FILE", help="text of lm and mlm")
    command.add_argument("--parallel", nargs=2, metavar=("SOURCE", "TARGET"), help="sentences and their translations, for BLEU")
    command.add_argument("--sts", metavar="FILE", help="sentence,sentence,score as CSV, of encoder")
    command.add_argument("--context", type=int, metavar="N", help="of a folder: positions of a row at most (default: 64)")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    command.add_argument("--json", action="store_true", help="print JSON")


def _matrix_arguments(command):
    """What `compare` and `explain` have in common: a matrix, what is known of its rows, the form."""
    data = command.add_argument_group("matrix")
    data.add_argument("--model", metavar="NAME", help="a folder of a Hugging Face model, or all-MiniLM-L6-v2 (extra: real)")
    data.add_argument("--matrix", metavar="FILE", help=".npy, .npz or .safetensors, or a folder with model.safetensors")
    data.add_argument("--key", help="name of the matrix in the file (default: the largest)")
    data.add_argument("--vocabulary", metavar="FILE", help="vocab.txt, vocab.json or tokenizer.json (default: beside the matrix)")
    data.add_argument("--text", metavar="FILE", help="text in which tokens are counted")
    data.add_argument("--counts", metavar="FILE", help="token TAB count a line, in the place of a text")
    data.add_argument("--unordered", action="store_true", help="the rows do not stand by falling frequency: go by counts alone")
    data.add_argument("--lexicon", default="sample", metavar="NAME", help="sample (default), none, openhownet, a folder, a file, "
                      "or several joined by +")
    data.add_argument("--segmentation", metavar="FILE", help="morphemes of words (default: Morfessor)")
    form = command.add_argument_group("form")
    form.add_argument("--policy", default="additive", metavar="NAME", help="which units a word is made of (default: additive)")
    form.add_argument("--order", type=int, metavar="N", help="factors of a product (default: 2, in the papers' form 3)")
    form.add_argument("--sweeps", type=int, default=6, metavar="N", help="sweeps of a fit (default: 6)")


def _compare_parser(commands):
    command = commands.add_parser(
        "compare", help="compare methods on an embedding matrix, without finetuning",
        description="Compress an embedding matrix by several methods at several ratios and measure what is left of it: "
                    "errors, word similarity, and with a model the similarity of sentences.",
    )
    _matrix_arguments(command)
    command.add_argument("--similarity", nargs="+", default=(), metavar="FILE", help="word TAB word TAB score")
    command.add_argument("--sts", metavar="FILE", help="sentence,sentence,score as CSV; needs --model")
    command.add_argument("--methods", nargs="+", metavar="NAME", help="default: see backoff shuffled hashed svd weighted-svd pq; "
                         "all adds word2ket word2ketxs tt morphte direction direction-ae offline; policies are methods, too")
    command.add_argument("--ratios", type=number, nargs="+", metavar="R", help="default: 10 20 40 80; of layers 2 4")
    command.add_argument("--seeds", type=int, nargs="+", default=(0,), metavar="N", help="default: 0")
    layers = command.add_argument_group("layers in place of an embedding")
    layers.add_argument("--layers", action="store_true", help="compare layer methods on the blocks of a small GPT and BERT, "
                        "before and after a short finetuning; --methods, --ratios and the first of --seeds apply")
    layers.add_argument("--job", default="out", metavar="DIR", help="of the main job whose GPT is taken if there is one "
                        "(default: out; else one is trained)")
    layers.add_argument("--quick", action="store_true", help="a small GPT of its own and fewer steps")
    command.add_argument("--out", default="out", metavar="DIR", help="compare.json, .md, .png; layers.json, ... (default: out)")


def _explain_parser(commands):
    command = commands.add_parser(
        "explain", help="show what words are made of",
        description="Show senses, sememes and morphemes of words, and, with a matrix or after the main job, the units that "
                    "rebuild their embeddings, how entangled they are, and their nearest words before and after.",
    )
    command.add_argument("words", nargs="+", metavar="WORD")
    _matrix_arguments(command)
    command.add_argument("--ratio", type=number, default=10, metavar="R", help="default: 10")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    command.add_argument("--job", default="out", metavar="DIR", help="of the main job, if no matrix is named (default: out)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--plot", metavar="FILE.png", help="draw how the (first) word is built")


def _bench_parser(commands):
    command = commands.add_parser(
        "bench", help="time and memory of look-up, tied head and fit against dense",
        description="Measure, in turn in one run and at equal floats, how long look-ups, tied heads and fits take and how much "
                    "memory they need, and how time grows with each size.",
    )
    command.add_argument("--rows", type=int, metavar="V", help="rows of the matrix (default: 30000)")
    command.add_argument("--dimensions", type=int, nargs="+", metavar="D", help="default: 256 512")
    command.add_argument("--ids", type=int, metavar="N", help="ids of a look-up (default: 2048)")
    command.add_argument("--ratio", type=number, metavar="R", help="default: 20")
    command.add_argument("--repeats", type=int, metavar="N", help="default: 15")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    command.add_argument("--threads", type=int, metavar="N", help="of torch (default: its own choice); numpy has OMP_NUM_THREADS")
    command.add_argument("--quick", action="store_true", help="tiny sizes, a few seconds")
    command.add_argument("--out", default="out", metavar="DIR", help="bench.json, .md, .png (default: out)")
