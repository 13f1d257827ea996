// One at a time: they start builds and downloads, and the machine may have two cores.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
