"""The benchmark.

Here the runner of GUE; in `audit` what is wrong with data, in `baselines` what stands beside every model, in
`report` what was found, in `experiments` the paper's other tables and figures.
"""
