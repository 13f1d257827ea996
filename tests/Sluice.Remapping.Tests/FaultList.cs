namespace Sluice.Remapping.Tests;

/// <summary>Keeps every fault it is told of.</summary>
internal sealed class FaultList : IFaultSink
{
    public List<DmaFault> Faults { get; } = [];

    public ulong Lost { get; private set; }

    /// <summary>The devices whose silence ended, one for each time.</summary>
    public List<PciAddress> Silenced { get; } = [];

    /// <summary>Faults that were told of and are not kept any more.</summary>
    public long Forgotten { get; private set; }

    /// <summary>Makes room in a long run.</summary>
    public void Forget()
    {
        Forgotten += Faults.Count;
        Faults.Clear();
    }

    public void OnFault(in DmaFault fault) => Faults.Add(fault);

    public void OnFaultsLost(ulong atLeast) => Lost += atLeast;

    public void OnSilenceEnded(PciAddress device) => Silenced.Add(device);
}
