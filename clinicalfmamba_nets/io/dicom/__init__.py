"""DICOM: files, headers, series and their geometry, pixels, derived objects."""

from clinicalfmamba_nets.io.dicom.read import read_dicom, read_series, write_dicom

__all__ = ["read_dicom", "read_series", "write_dicom"]
