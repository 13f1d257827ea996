// One QEMU at a time: two cores, and some tests count the processes and folders that are left.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
