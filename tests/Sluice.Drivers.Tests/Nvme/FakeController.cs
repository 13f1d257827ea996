using System.Buffers.Binary;
using Sluice.Machines;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>
/// Registers of a controller that says of itself what a test wants, and answers admin commands on the spot, on the
/// processor's thread. It is for what no honest model says; memory is reached physically, so no unit may be there.
/// </summary>
internal sealed class FakeController(Machine machine) : RegisterWindow
{
    private readonly byte[] _queues = new byte[0x18];
    private uint _configuration;
    private uint _tail;
    private uint _taken;
    private int _untilReady;

    /// <summary>CAP: 64 entries, half a second, the NVM command set, as far as a test leaves it.</summary>
    public ulong Capabilities { get; set; } = 63 | (1UL << 16) | (1UL << 24) | (1UL << 37);

    /// <summary>NSZE of namespace 1.</summary>
    public ulong Blocks { get; set; } = 2048;

    /// <summary>LBADS of namespace 1.</summary>
    public byte BlockSizeLog2 { get; set; } = 9;

    /// <summary>Reads of CSTS after EN rises before RDY does.</summary>
    public int StatusReadsUntilReady { get; set; }

    /// <summary>Whether CSTS.CFS is set.</summary>
    public bool HasFailed { get; set; }

    /// <summary>What was written to CC, and whether RDY agreed with EN before.</summary>
    public List<(uint Value, bool WasSettled)> Configurations { get; } = [];

    public override uint Length => 0x2000;

    /// <summary>As firmware may leave it: enabled, and ready after so many reads of CSTS.</summary>
    public void LeaveEnabled(int readsUntilReady) => (_configuration, _untilReady) = (1, readsUntilReady);

    public override uint Read32(uint offset)
    {
        switch (offset)
        {
            case 0x08: return 0x0001_0400;
            case 0x14: return _configuration;
            case 0x1C:
                if (_untilReady > 0) { _untilReady--; }
                return (IsReady ? 1u : 0) | (HasFailed ? 2u : 0) | ((_configuration >> 14) & 3) << 3;
            default: return (uint)Read64(offset & ~7u);
        }
    }

    public override ulong Read64(uint offset) => offset == 0 ? Capabilities : 0;

    public override void Write32(uint offset, uint value)
    {
        if (offset is >= 0x24 and < 0x3C)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(_queues.AsSpan((int)offset - 0x24), value);
        }
        else if (offset == 0x14)
        {
            bool wasEnabled = (_configuration & 1) != 0;
            Configurations.Add((value, wasEnabled == IsReady));
            _configuration = value;
            bool rises = !wasEnabled && (value & 1) != 0;
            if (rises) { (_untilReady, _tail, _taken) = (StatusReadsUntilReady, 0, 0); }
        }
        else if (offset == 0x1000)
        {
            for (; _tail != value; _tail = (_tail + 1) % Entries) { Execute(); }
        }
    }

    public override void Write64(uint offset, ulong value)
    {
        Write32(offset, (uint)value);
        Write32(offset + 4, (uint)(value >> 32));
    }

    public override byte Read8(uint offset) => 0;

    public override ushort Read16(uint offset) => 0;

    public override void Write8(uint offset, byte value)
    {
    }

    public override void Write16(uint offset, ushort value)
    {
    }

    private bool IsReady => (_configuration & 1) != 0 && _untilReady == 0;

    private uint Entries => (BinaryPrimitives.ReadUInt32LittleEndian(_queues) & 0xFFF) + 1;

    private void Execute()
    {
        byte[] command = new byte[64];
        ulong submissions = BinaryPrimitives.ReadUInt64LittleEndian(_queues.AsSpan(4));
        ulong completions = BinaryPrimitives.ReadUInt64LittleEndian(_queues.AsSpan(12));
        machine.Memory.TryRead(new(submissions + (_tail * 64)), command);
        uint opcode = command[0];
        if (opcode == 0x0C) { return; } // an event never comes
        uint result = opcode == 0x09 ? 0x0000_0000u : 0;
        if (opcode == 0x06) { Identify(command); }
        byte[] answer = new byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(answer, result);
        bool phase = (_taken / Entries) % 2 == 0;
        uint id = BinaryPrimitives.ReadUInt16LittleEndian(command.AsSpan(2));
        BinaryPrimitives.WriteUInt32LittleEndian(answer.AsSpan(12), id | (phase ? 0x1_0000u : 0));
        machine.Memory.TryWrite(new(completions + (_taken % Entries * 16)), answer);
        _taken++;
    }

    private void Identify(byte[] command)
    {
        byte[] page = new byte[4096];
        switch (command[40])
        {
            case 0:
                BinaryPrimitives.WriteUInt64LittleEndian(page, Blocks);
                page[130] = BlockSizeLog2;
                break;
            case 2:
                page[0] = 1;
                break;
        }
        machine.Memory.TryWrite(new(BinaryPrimitives.ReadUInt64LittleEndian(command.AsSpan(24))), page);
    }
}
