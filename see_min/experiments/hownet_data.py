"""`hownet`: look at HowNet's data, or download them."""

from see_min.words.hownet import download, read_openhownet


def add_arguments(parser):
    """The flags of `hownet`."""
    parser.add_argument("--download", action="store_true", help="let OpenHowNet download the data")
    parser.add_argument("--folder", metavar="FOLDER", help="default: ~/.openhownet")


def run(arguments, command):
    """Print how much the data hold, after downloading them if asked."""
    if arguments.download:
        download(arguments.folder)
    lexicon = read_openhownet(arguments.folder)
    senses = [sense for own in lexicon.entries.values() for sense in own]
    sememes = {name for sense in senses for name in sense.sememes}
    print(f"{len(lexicon):,} English words, {len(senses):,} senses, {len(sememes):,} sememes; "
          f"{len(lexicon.skipped):,} notes")
    for note in lexicon.skipped[:5]:
        print(f"  {note}")
