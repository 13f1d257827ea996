namespace Sluice.Remapping.Tests;

/// <summary>Keeps every fault it is told of.</summary>
internal sealed class FaultList : IFaultSink
{
    public List<DmaFault> Faults { get; } = [];

    public ulong Lost { get; private set; }

    public void OnFault(in DmaFault fault) => Faults.Add(fault);

    public void OnFaultsLost(ulong atLeast) => Lost += atLeast;
}
