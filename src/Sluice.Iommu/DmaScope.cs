namespace Sluice.Iommu;

/// <summary>
/// A DMA in flight, from <see cref="TranslationPort.Begin"/> until it is disposed, once. It cannot outlive the method
/// that began it, and an exception ends it too.
/// </summary>
public readonly ref struct DmaScope : IDisposable
{
    private readonly TranslationPort _port;

    internal DmaScope(TranslationPort port)
    {
        _port = port;
        port.Enter();
    }

    /// <summary>Ends the DMA.</summary>
    public void Dispose() => _port.Exit();
}
