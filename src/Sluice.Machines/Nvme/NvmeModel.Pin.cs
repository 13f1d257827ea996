namespace Sluice.Machines.Nvme;

// Interrupts without MSI-X: one level, up while a completion waits that asks for interrupts and is not masked.
public sealed partial class NvmeModel
{
    private readonly Lock _pin = new();

    /// <summary>
    /// After whatever may change the level, on any thread: completions posted or taken, masks, queues that go.
    /// </summary>
    /// <remarks>NVM Express base specification 1.4, 7.5.1 and 7.5.1.1: pin-based interrupts use vector 0.</remarks>
    private void UpdatePin()
    {
        if (IsMsixEnabled) { return; }
        lock (_pin)
        {
            uint unmasked = ~Volatile.Read(ref _interruptMask);
            bool isUp = false;
            foreach (ref CompletionQueue? slot in _completions.AsSpan())
            {
                isUp |= Volatile.Read(ref slot) is { Interrupts: true, HasEntries: true } ring
                    && (unmasked & (1u << ring.Vector)) != 0;
            }
            SetPin(isUp);
        }
    }
}
