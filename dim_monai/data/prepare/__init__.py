"""From a folder as people have it to a data list: layouts, domains, draws, duplicates.

`prepare` is in `dim_monai.data.prepare.prepare`. This file imports nothing, because
`dim_monai.data.datalist` draws its split with this package, and the package writes data lists.
"""
