namespace Sluice.Remapping.Vtd;

/// <summary>Finds remapping units in the firmware's tables.</summary>
internal static class FirmwareDiscovery
{
    /// <summary>What the DMAR table says.</summary>
    /// <exception cref="RemappingException">There is no usable table.</exception>
    public static FirmwareDescription Find(IPlatform platform) => throw new RemappingException("the firmware describes no remapping unit");
}
