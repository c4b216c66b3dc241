"""HDF5: a file per attempt while running, one results.h5 once collected. h5py lives here."""
