using Sluice.Remapping;

namespace Sluice.Dma;

// Which domain the device is in. The primary parameters "domain" and "device" follow it: they change only while the
// adapter has nothing mapped and its map registers are held.
internal sealed partial class RemappingBackend
{
    private DeviceDescription? _own;
    private DmaDomain? _home;
    private DmaDomain? _place;

    // Closed, and the unit has confirmed that the device reaches nothing.
    private bool _isOut;

    /// <inheritdoc/>
    public DmaDomain? Place => Volatile.Read(ref _place);

    /// <inheritdoc/>
    public DmaDomain? Home => _home;

    /// <summary>Address bits the device itself drives.</summary>
    internal int AddressBits => _own!.AddressBits;

    /// <summary>The device was attached to its first domain. Under the domain lock.</summary>
    internal void Settle(DmaDomain home)
    {
        (_home, _place, _own) = (home, home, device);
        home.Hold();
        home.Enter(this);
    }

    /// <summary>Nothing is mapped beyond what every device in the domain drives.</summary>
    internal void Limit(int addressBits) => device = _own! with { AddressBits = addressBits };

    /// <inheritdoc/>
    public void Move(DmaDomain to)
    {
        DmaDomain from = _place!;
        to.Hold();
        try { system.Attach(to.Space!, address); }
        catch
        {
            to.Release();
            throw;
        }
        from.Leave(this, isOut: true);
        to.Enter(this);
        to.Release();
        domain = to.Space!;
        Volatile.Write(ref _place, to);
        from.Release();
    }

    /// <inheritdoc/>
    public void Revoke()
    {
        system.Detach(address);
        domain.FlushNow();
    }

    /// <inheritdoc/>
    public void Close(bool leaked)
    {
        // By now the device alone counts: others in the domain go on, and a domain with a leak in it stays.
        _isOut = system.Detach(address);
        _place!.Leave(this, _isOut);
        if (!leaked) { _place.Release(); }
        _home!.Release();
    }

    /// <inheritdoc/>
    public void Release() => _place!.Release();

    /// <inheritdoc/>
    public bool Forget(Mapping mapping)
    {
        // With nobody left in the domain, nobody reaches what stands in its tables: unless a dead unit still does.
        if (!_place!.IsSharedWith(this)) { return _isOut; }
        // What was leaked because the unit is dead stands in no table that could be searched.
        if (domain.IsDead) { return false; }
        return mapping.Common.Pages is { } pages
            ? domain.UnmapRange(mapping.Common.Range, pages) != UnmapStatus.Quarantined && !domain.IsDead
            : Unmap(mapping) && Flushed();
    }

    private bool Flushed()
    {
        domain.FlushNow();
        return !domain.IsDead;
    }
}
