"""Small models to try the method on, their training and their data."""

MODELS = ("BERTConfig", "GPTConfig", "TinyBERT", "TinyGPT", "TinyTranslator", "TranslatorConfig")


def __getattr__(name):
    """The models by name; torch is imported at the first of them, because `data` needs none."""
    if name in MODELS:
        from see_min.toy import models

        return getattr(models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
