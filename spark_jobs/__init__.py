"""The jobs that run on the Spark cluster; they know pyspark and each other, neither Airflow nor the provider.

Each job file is started by spark-submit, has an argparse ``main()`` and a pure ``transform()``. ``retail_batch.py`` runs the three
jobs of a day, or of a range of days, in one application; ``load_csv.py`` loads files that outgrow one worker.
"""
