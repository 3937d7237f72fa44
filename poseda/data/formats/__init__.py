"""One file a domain. The file's name is the domain's name (with a leading _ where that starts with a
digit).

A file states USES, the options of DomainConfig beyond the common ones that it reads; `load(config, root) ->
Domain | Footage`, which raises MissingDataError where the data are not there; and STANDIN, a function (config) ->
Domain that makes stand-in data, or None. Nothing else has to be edited to add one.
"""
