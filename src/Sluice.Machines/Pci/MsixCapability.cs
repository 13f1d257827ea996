namespace Sluice.Machines;

/// <summary>MSI-X: a table of messages and a bitmap of pending ones, both in a BAR.</summary>
/// <remarks>
/// PCI Local Bus 3.0, 6.8.2. Entry: +0 address, +4 upper address, +8 data, +0xC control (bit 0 mask, set by reset).
/// Accesses of 4 and 8 bytes, aligned; others read zero and are dropped.
/// </remarks>
internal sealed class MsixCapability
{
    private readonly Lock _lock = new();
    private readonly PciConfigSpace _config;
    private readonly int _offset;
    private readonly int _bar;
    private readonly uint _tableOffset;
    private readonly uint _pendingOffset;
    private readonly uint[] _table;
    private readonly ulong[] _pending;
    private readonly int _vectors;
    private DmaPort? _port;
    private bool _enabled;
    private bool _masked;

    public MsixCapability(PciConfigSpace config, int vectors, int bar, uint tableOffset, uint pendingOffset)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(vectors);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(vectors, 2048);
        ArgumentOutOfRangeException.ThrowIfNotEqual((tableOffset | pendingOffset) & 7, 0u);
        (_config, _vectors, _bar, _tableOffset, _pendingOffset) = (config, vectors, bar, tableOffset, pendingOffset);
        _table = new uint[vectors * 4];
        _pending = new ulong[(vectors + 63) / 64];
        _offset = config.AddCapability(PciConfig.CapabilityMsix, 12);
        config.Set16(_offset + 2, (ushort)(vectors - 1));
        config.Allow16(_offset + 2, PciConfig.MsixEnable | PciConfig.MsixFunctionMask);
        config.Set32(_offset + 4, tableOffset | (uint)bar);
        config.Set32(_offset + 8, pendingOffset | (uint)bar);
        Reset();
    }

    public bool IsEnabled => Volatile.Read(ref _enabled);

    public void Connect(DmaPort port) => _port = port;

    /// <summary>Takes over the control word; enabling or unmasking the function sends what is pending.</summary>
    public void Update()
    {
        lock (_lock)
        {
            uint control = _config.Read(_offset + 2, 2);
            Volatile.Write(ref _enabled, (control & PciConfig.MsixEnable) != 0);
            _masked = (control & PciConfig.MsixFunctionMask) != 0;
            SendPending();
        }
    }

    public void Reset()
    {
        lock (_lock)
        {
            Array.Clear(_table);
            Array.Clear(_pending);
            for (int i = 3; i < _table.Length; i += 4) { _table[i] = PciConfig.MsixVectorMasked; }
        }
    }

    public bool Claims(int bar, ulong offset) =>
        bar == _bar && (IsTable(offset) || offset - _pendingOffset < (ulong)_pending.Length * 8);

    public ulong Read(ulong offset, int size)
    {
        if (size < 4) { return 0; }
        lock (_lock)
        {
            uint low = ReadWord(offset);
            return size == 4 ? low : low | ((ulong)ReadWord(offset + 4) << 32);
        }
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (size < 4 || !IsTable(offset)) { return; }
        lock (_lock)
        {
            int word = (int)((offset - _tableOffset) / 4);
            WriteWord(word, (uint)value);
            if (size == 8) { WriteWord(word + 1, (uint)(value >> 32)); }
            SendPending();
        }
    }

    public void Raise(int vector)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)vector, (uint)_vectors, nameof(vector));
        lock (_lock)
        {
            if (!_enabled) { return; }
            if (_masked || IsMasked(vector)) { _pending[vector >> 6] |= 1UL << vector; } else { Send(vector); }
        }
    }

    private bool IsMasked(int vector) => (_table[vector * 4 + 3] & PciConfig.MsixVectorMasked) != 0;

    // The subtraction wraps below the table, which is then far above its length.
    private bool IsTable(ulong offset) => offset - _tableOffset < (ulong)_table.Length * 4;

    private uint ReadWord(ulong offset)
    {
        if (IsTable(offset)) { return _table[(offset - _tableOffset) / 4]; }
        ulong index = (offset - _pendingOffset) / 4;
        return index / 2 < (ulong)_pending.Length ? (uint)(_pending[index / 2] >> (int)((index & 1) * 32)) : 0;
    }

    private void WriteWord(int word, uint value)
    {
        // Address: 4-byte aligned; control: the mask bit only.
        _table[word] = (word & 3) switch { 0 => value & ~3u, 3 => value & PciConfig.MsixVectorMasked, _ => value };
    }

    private void SendPending()
    {
        if (!_enabled || _masked) { return; }
        for (int i = 0; i < _pending.Length; i++)
        {
            for (ulong left = _pending[i]; left != 0; left &= left - 1)
            {
                int vector = i * 64 + System.Numerics.BitOperations.TrailingZeroCount(left);
                if (IsMasked(vector)) { continue; }
                _pending[i] &= ~(1UL << vector);
                Send(vector);
            }
        }
    }

    private void Send(int vector)
    {
        int entry = vector * 4;
        _port?.Send(new(new(_table[entry] | ((ulong)_table[entry + 1] << 32)), _table[entry + 2]));
    }
}
