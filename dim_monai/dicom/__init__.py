"""DICOM in and out: series discovery, geometry proof, pixel data, a writer of plain series."""
