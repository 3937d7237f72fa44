"""Raw data sets, one file each. The file's name is the data set's name (with a leading _ before a digit).

A file states TITLE and SITE (what it is, where to get it, for help and messages), LAYOUTS (the file layouts that it
recognises, one line each), USES (the fields of RawOptions that it reads) and `open_raw(raw, options) -> RawDataset`.
`open_raw` recognises the layout by what is in the files, never by guessing from values; it raises MissingDataError or
DataError in one line that names what was looked for. Nothing else has to be edited to add one.
"""
