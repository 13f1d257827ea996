namespace Sluice.Machines.Nvme;

/// <summary>The features that Get Features and Set Features know. None can be saved.</summary>
/// <remarks>NVM Express base specification 1.4, 5.21.1.</remarks>
internal sealed class NvmeFeatures
{
    public const byte NumberOfQueues = 0x07;
    private const byte Arbitration = 0x01;
    private const byte PowerManagement = 0x02;
    private const byte TemperatureThreshold = 0x04;
    private const byte ErrorRecovery = 0x05;
    private const byte VolatileWriteCache = 0x06;
    private const byte InterruptCoalescing = 0x08;
    private const byte InterruptVector = 0x09;
    private const byte WriteAtomicity = 0x0A;
    private const byte AsyncEventConfiguration = 0x0B;
    private const uint OverThresholdDefault = 0x157;
    private const uint TemperatureWarning = 1 << 1;

    private readonly uint[] _values = new uint[AsyncEventConfiguration + 1];
    private readonly uint _queues;
    private readonly int _vectors;
    private ulong _uncoalescedVectors;
    private uint _underThreshold;

    public NvmeFeatures(int queuePairs)
    {
        _queues = (uint)(queuePairs - 1) | ((uint)(queuePairs - 1) << 16);
        _vectors = queuePairs + 1;
        Reset();
    }

    /// <summary>Whether a write may be answered before it is stable.</summary>
    public bool HasWriteCache => (_values[VolatileWriteCache] & 1) != 0;

    /// <summary>Whether a temperature of so many kelvin is a warning.</summary>
    public bool IsTooHot(int temperature) => (uint)temperature >= _values[TemperatureThreshold];

    /// <summary>Whether a temperature warning is reported as an event.</summary>
    public bool ReportsTemperature => (_values[AsyncEventConfiguration] & TemperatureWarning) != 0;

    public void Reset()
    {
        Array.Clear(_values);
        for (byte id = 0; id < _values.Length; id++) { _values[id] = Default(id); }
        (_uncoalescedVectors, _underThreshold) = (0, 0);
    }

    /// <summary>
    /// Get Features; <paramref name="selection"/> is 0 current, 1 default, 2 saved (the default), 3 capabilities.
    /// </summary>
    public NvmeStatus Get(byte id, uint selection, uint dword11, out uint value)
    {
        value = 0;
        if (!IsKnown(id) || selection > 3) { return NvmeStatus.InvalidField | NvmeStatus.DoNotRetry; }
        if (selection == 3)
        {
            const uint Changeable = 4, NamespaceSpecific = 2;
            value = Changeable | (id == ErrorRecovery ? NamespaceSpecific : 0);
        }
        else if (id == InterruptVector)
        {
            uint vector = dword11 & 0xFFFF;
            if (vector >= _vectors) { return NvmeStatus.InvalidField | NvmeStatus.DoNotRetry; }
            bool off = selection == 0 && ((_uncoalescedVectors >> (int)vector) & 1) != 0;
            value = vector | (off ? 1u << 16 : 0);
        }
        else if (id == TemperatureThreshold)
        {
            if (!IsComposite(dword11)) { return NvmeStatus.InvalidField | NvmeStatus.DoNotRetry; }
            bool under = ((dword11 >> 20) & 3) == 1;
            value = under ? (selection == 0 ? _underThreshold : 0) : selection == 0 ? _values[id] : Default(id);
        }
        else
        {
            value = selection == 0 ? _values[id] : Default(id);
        }
        return NvmeStatus.Success;
    }

    /// <summary>Set Features, as far as it concerns values alone.</summary>
    public NvmeStatus Set(byte id, uint dword11, out uint result)
    {
        result = 0;
        const NvmeStatus Invalid = NvmeStatus.InvalidField | NvmeStatus.DoNotRetry;
        switch (id)
        {
            case NumberOfQueues:
                if ((dword11 & 0xFFFF) == 0xFFFF || dword11 >> 16 == 0xFFFF) { return Invalid; }
                result = _queues;
                return NvmeStatus.Success;
            case PowerManagement when (dword11 & 0x1F) != 0:
                return Invalid; // there is power state 0 alone
            case TemperatureThreshold:
                if (!IsComposite(dword11)) { return Invalid; }
                if (((dword11 >> 20) & 3) == 1) { _underThreshold = dword11 & 0xFFFF; }
                else { _values[id] = dword11 & 0xFFFF; }
                return NvmeStatus.Success;
            case InterruptVector:
                if ((dword11 & 0xFFFF) >= _vectors) { return Invalid; }
                ulong bit = 1UL << (int)(dword11 & 0xFFFF);
                _uncoalescedVectors = (dword11 & (1u << 16)) != 0
                    ? _uncoalescedVectors | bit
                    : _uncoalescedVectors & ~bit;
                return NvmeStatus.Success;
            default:
                if (!IsKnown(id)) { return Invalid; }
                _values[id] = dword11 & Mask(id);
                return NvmeStatus.Success;
        }
    }

    public static bool IsNamespaceSpecific(byte id) => id == ErrorRecovery;

    public static bool IsKnown(byte id) => id is >= Arbitration and <= AsyncEventConfiguration and not 0x03;

    private static bool IsComposite(uint dword11) => ((dword11 >> 16) & 0xF) is 0 or 0xF && ((dword11 >> 20) & 3) < 2;

    private uint Default(byte id) => id switch
    {
        Arbitration => 0x3, // bursts of 8
        TemperatureThreshold => OverThresholdDefault,
        VolatileWriteCache => 1,
        NumberOfQueues => _queues,
        _ => 0,
    };

    private static uint Mask(byte id) => id switch
    {
        Arbitration => 0xFFFF_FF07,
        PowerManagement => 0xFF,
        ErrorRecovery or InterruptCoalescing => 0xFFFF,
        VolatileWriteCache or WriteAtomicity => 1,
        _ => uint.MaxValue,
    };
}
