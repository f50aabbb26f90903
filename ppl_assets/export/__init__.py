"""The export: a target's mixture as a file that a trainer, a data pipeline or a person reads.

A `Blend` is what is exported: the domains that have weight, heaviest first, each with the path of its data. Every
format is a pure function from a blend to the content of a file. Weights are shares of tokens; they are written with as
many digits (at most 17) as it takes to read back the same float64. Nothing is rounded or normalised again.

It does not know where a domain's data lies: paths come from a template, such as ``data/{domain}``.
"""

from ppl_assets.export.blend import Blend, Share, blend_of, file_name
from ppl_assets.export.certificate_files import certificate_files, write_certificates
from ppl_assets.export.formats import FORMATS, export_mixture

__all__ = [
    "FORMATS",
    "Blend",
    "Share",
    "blend_of",
    "certificate_files",
    "export_mixture",
    "file_name",
    "write_certificates",
]
