using Sluice.Remapping;

namespace Sluice.Dma.Wdm;

// Row 31: which logical address space the device is in.
public sealed partial class WdmAdapter
{
    /// <summary>GetDmaDomain: the handle of the device's logical address space.</summary>
    /// <remarks>At PASSIVE_LEVEL. Without a unit all devices are in one domain: physical memory.</remarks>
    public DmaDomain GetDmaDomain()
    {
        Enter(DdiFunction.GetDmaDomain);
        return Adapter.Domain;
    }

    /// <summary>
    /// JoinDmaDomain: moves the device into another's domain; what either maps from now on, both reach. Blocked while
    /// it moves.
    /// </summary>
    /// <remarks>At PASSIVE_LEVEL, with nothing outstanding. Joining the domain it is in already changes
    /// nothing.</remarks>
    /// <param name="domain">From another adapter's <see cref="GetDmaDomain"/>.</param>
    /// <returns>Success; InvalidParameter: no adapter is in that domain; InvalidDeviceRequest: something is
    /// outstanding, it joined before, or the devices cannot share one; NotSupported: the unit, or a device that shares
    /// the requester id, does not let it move.</returns>
    public NtStatus JoinDmaDomain(DmaDomain domain)
    {
        Enter(DdiFunction.JoinDmaDomain);
        ArgumentNullException.ThrowIfNull(domain);
        if (domain == Adapter.Domain) { return NtStatus.Success; }
        return _dma.Find(domain) is { } other ? Move(() => Adapter.JoinDomain(other.Adapter))
            : NtStatus.InvalidParameter;
    }

    /// <summary>LeaveDmaDomain: moves the device back into a domain of its own. Blocked while it moves.</summary>
    /// <remarks>At PASSIVE_LEVEL, with nothing outstanding.</remarks>
    /// <returns>Success; InvalidDeviceRequest: it joined none, or something is outstanding; NotSupported as
    /// <see cref="JoinDmaDomain"/>.</returns>
    public NtStatus LeaveDmaDomain()
    {
        Enter(DdiFunction.LeaveDmaDomain);
        return Move(Adapter.LeaveDomain);
    }

    // What was set aside belongs to the old domain.
    private NtStatus Move(Action move)
    {
        if (_reserve is { IsBusy: true }) { return NtStatus.InvalidDeviceRequest; }
        bool reserved = _reserve is not null;
        _reserve?.Dispose();
        _reserve = null;
        try
        {
            move();
            return NtStatus.Success;
        }
        catch (RemappingException) { return NtStatus.NotSupported; }
        catch (InvalidOperationException) { return NtStatus.InvalidDeviceRequest; }
        finally
        {
            if (reserved) { _reserve = WdmDma.SetAside(Adapter, NumberOfMapRegisters); }
        }
    }
}
