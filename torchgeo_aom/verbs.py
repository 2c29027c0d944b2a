"""The verbs of ``torchgeo-aom``: what each does, the module that does it, and help texts."""

from __future__ import annotations

__all__ = (
    'BANDS_EPILOG',
    'DESCRIPTION',
    'DOCTOR_EPILOG',
    'EPILOG',
    'MODULES',
    'PARSERS',
    'PLAN_EPILOG',
    'PRETRAIN',
    'SPEC',
    'TRAINING',
    'WEIGHTS_EPILOG',
)

# Verbs with a parser of their own: what they do, and the module whose main(argv) does it.
MODULES = {
    'demo': ('run the main job on real data that ships with the package', 'torchgeo_aom.demo'),
    'bench': (
        'measure speed beside other models, or of pretraining (--pretrain)',
        'torchgeo_aom.bench',
    ),
    'probe': (
        'linear probe and nearest neighbors on frozen features',
        'torchgeo_aom.tasks.probe_cli',
    ),
    'scene': ('embeddings and maps of whole scenes', 'torchgeo_aom.scene.cli'),
    'segment': (
        'train UPerNet on the frozen encoder, by bands and seeds',
        'torchgeo_aom.tasks.segment',
    ),
    'study': ('find out which bands and patch sizes matter: a report', 'torchgeo_aom.studies.cli'),
    'stats': (
        'measure mean and standard deviation of the bands of images',
        'torchgeo_aom.data.statistics',
    ),
}
# The same verbs about pretraining, with --pretrain: modules as above.
PRETRAIN = {
    'bench': 'torchgeo_aom.bench_pretrain',
    'plan': 'torchgeo_aom.tasks.pretrain_plan',
}
# Where options of these are known without the libraries that do the work, under commands/.
PARSERS = {
    'bench': 'bench:bench_parser',
    'bench --pretrain': 'bench:pretrain_parser',
    'demo': 'demo:demo_parser',
    'plan --pretrain': 'plan_pretrain:plan_pretrain_parser',
    'probe': 'probe:probe_parser',
    'probe --loading': 'probe:loading_parser',
    'stats': 'stats:stats_parser',
    'study bands': 'study:bands_parser',
    'study cards': 'study:cards_parser',
    'study figures': 'study:figures_parser',
    'study objectives': 'study:objectives_parser',
    'study patches': 'study:patches_parser',
    'study sensors': 'study:sensors_parser',
    'study speed': 'study:speed_parser',
}
TRAINING = {
    'fit': "train a task, with TorchGeo's own options (fit --help)",
    'validate': 'evaluate a task on the validation split',
    'test': 'evaluate a task on the test split',
    'predict': 'run a task on the prediction split',
}

DESCRIPTION = 'Any-Optical-Model for TorchGeo: one backbone for any bands and sizes.'
EPILOG = """\
examples:
  torchgeo-aom bands landsat8
  torchgeo-aom plan --bands sentinel2 --size 512 --patch 16
  torchgeo-aom fit --config config.yaml
  torchgeo-aom scene embed IN.tif OUT.tif --sensor landsat8 --product c2l2
  torchgeo-aom VERB --help      (all options of a verb, with examples)

exit codes: 0 done, 1 refused or failed (the reason is on stderr), 2 wrong usage
"""
SPEC = """\
A SPEC is a preset (sentinel2, landsat8:rgb), a band with its sensor (sentinel2:B8A), a common name
(nir08), a wavelength (0.865 um or 865 nm) or a channel index (8). They may be mixed.
"""
BANDS_EPILOG = f"""\
{SPEC}
The table says for each channel its wavelength, the channel index that the model sees, and how far
the nearest band of Sentinel-2 is.

examples:
  torchgeo-aom bands landsat8
  torchgeo-aom bands "sentinel2:B8A" 865 red --json
  torchgeo-aom bands B04 B03 B02 --sensor sentinel2
  torchgeo-aom bands mysensor --sensors mysensor.toml
  torchgeo-aom bands --list
"""
PLAN_EPILOG = f"""\
{SPEC}
Tokens, operations and memory are counted, not measured: nothing is run.

examples:
  torchgeo-aom plan --bands sentinel2 --size 512 --patch 16
  torchgeo-aom plan --model aom_vits --bands naip --size 500 400 --patch 24 --batch 8
  torchgeo-aom plan --bands sentinel2:rgb --size 500 --patch auto
  torchgeo-aom plan --bands sentinel2:rgb --dtype bfloat16 --json
  torchgeo-aom plan --pretrain --help      (what a pretraining run costs)
"""
WEIGHTS_EPILOG = """\
examples:
  torchgeo-aom weights list
  torchgeo-aom weights show AOMTiny_Weights.OPTICAL
  torchgeo-aom weights export last.ckpt encoder.safetensors
"""
DOCTOR_EPILOG = """\
Exit code 1 if something that every use needs is missing or too old, or broken (--imports).

examples:
  torchgeo-aom doctor
  torchgeo-aom doctor --imports
  torchgeo-aom doctor --json
"""
