namespace Sluice.Qemu.Tests.Devices;

// Registers, DMA, pins and MSI of the three edu devices.
internal sealed partial class DeviceProgram
{
    /// <summary>What edu moves to and from, below the 28 bits that it reaches by default.</summary>
    private const ulong Memory = 0x80_0000;
    private const int MemoryBytes = 0x1_0000;

    private static void PrepareEdu(DeviceSide side)
    {
        byte[] pattern = new byte[MemoryBytes];
        new Random(5).NextBytes(pattern);
        side.Client.WriteBlock(new(Memory), pattern);
        // Whatever is under way ends; its interrupt is acknowledged with the rest.
        side.Client.StepClock(200_000_000);
        for (int i = 0; i < Edus.Length; i++)
        {
            side.SetConfig32(EduSlots[i], 0x40, 0x0080_0005);
            side.SetConfig32(EduSlots[i], 0x04, 6);
            ulong bar = Edus[i];
            side.Client.Write32(new(bar + 0x20), 0);
            side.Client.Write32(new(bar + 0x08), 0);
            DeviceSide.Wait(() => (side.Client.Read32(new(bar + 0x20)) & 1) == 0);
            EduDma(side, bar, Memory, 0x4_0000, 0x1000, 1);
            side.Client.Write32(new(bar + 0x04), 0);
            side.Client.Write32(new(bar + 0x64), uint.MaxValue);
        }
    }

    private void EduRegister()
    {
        ulong bar = Pick(Edus);
        ulong register = Pick<ulong>(
            0x00, 0x04, 0x08, 0x0C, 0x20, 0x24, 0x60, 0x64, 0x7C, 0x80, 0x84, 0x88, 0x90, 0x98, 0xA0);
        register += Once(8) ? (ulong)_random.Next(8) : 0;
        int size = Pick(4, 4, 4, 8, 1, 2);
        // The factorial waits for the device, the command register starts it: they have steps of their own.
        bool isWrite = Once(2) && register + (ulong)size <= 0x98 && (register > 0x0B || register + (ulong)size <= 8)
            && (register >= 0x80 || (register & 3) == 0);
        ulong value = Once(4) ? ulong.MaxValue : (ulong)_random.NextInt64();
        if (isWrite)
        {
            Add(Text($"edu {bar:x} write {register:x} in {size} of {value:x}"), rig =>
            {
                Write(rig.Side, bar + register, size, value);
                rig.Side.Log("wires", rig.Side.TakeWires());
            });
        }
        else
        {
            Add(Text($"edu {bar:x} read {register:x} in {size}"), rig =>
                rig.Side.Log(Text($"edu {register:x} in {size}"), Read(rig.Side, bar + register, size)));
        }
    }

    private void EduTransfer()
    {
        ulong bar = Pick(Edus);
        bool toMemory = Once(2);
        int length = Math.Min(Pick(0, 1, 3, 8, 64, 511, 1024, 4096), 4096);
        ulong inside = 0x4_0000 + (ulong)_random.Next(4096 - length + 1);
        ulong outside = Memory + (ulong)_random.Next(MemoryBytes - length + 1)
            + (bar != DeviceSide.WideEdu && Once(3) ? 0x5000_0000_0000UL : 0);
        ulong command = 1 | (toMemory ? 2UL : 0) | (Once(3) ? 4UL : 0);
        Add(Text($"edu {bar:x} moves {length} bytes, {outside:x}, command {command}"), rig =>
        {
            EduDma(rig.Side, bar, toMemory ? inside : outside, toMemory ? outside : inside, (ulong)length, command);
            rig.Side.Log("wires of a DMA", rig.Side.TakeWires());
        });
    }

    private void EduInterrupt()
    {
        ulong bar = Pick(Edus);
        uint bits = Pick(0u, 1u, 2u, 3u, 0xFFu, uint.MaxValue);
        switch (_random.Next(5))
        {
            case 0:
                uint n = (uint)_random.Next(40);
                bool tells = Once(2);
                Add(Text($"edu {bar:x} factorial of {n}, tells: {tells}"), rig =>
                {
                    DeviceSide side = rig.Side;
                    side.Client.Write32(new(bar + 0x20), tells ? 0x80u : 0);
                    side.Client.Write32(new(bar + 8), n);
                    DeviceSide.Wait(() => (side.Client.Read32(new(bar + 0x20)) & 1) == 0);
                    // QEMU computes on a thread, and raises the interrupt after the bit has gone.
                    if (tells) { DeviceSide.Wait(() => (side.Client.Read32(new(bar + 0x24)) & 1) != 0); }
                    side.Log("factorial", side.Client.Read32(new(bar + 8)));
                    side.Log("wires of a factorial", side.TakeWires());
                });
                break;
            case 1 or 2:
                Add(Text($"edu {bar:x} raises {bits:x}"), rig =>
                    rig.Side.Do(Text($"writel 0x{bar + 0x60:x} 0x{bits:x}")));
                break;
            default:
                Add(Text($"edu {bar:x} acknowledges {bits:x}"), rig =>
                    rig.Side.Do(Text($"writel 0x{bar + 0x64:x} 0x{bits:x}")));
                break;
        }
    }

    private void EduConfiguration()
    {
        int which = _random.Next(Edus.Length);
        (int register, uint value) = _random.Next(3) switch
        {
            0 => (0x04, Pick(0x006u, 0x406u, 0x404u, 0xFFFF_0006u, 0x506u)),
            1 => (0x40, Pick(0x0080_0005u, 0x0081_0005u, 0xFFFF_FFFFu)),
            _ => (Pick(0x10, 0x2C, 0x34, 0x38, 0x3C, 0x44, 0x48, 0x4C, 0xFC), 0u),
        };
        bool isWrite = register is 0x04 or 0x40;
        Add(Text($"edu in slot {EduSlots[which]}: configuration {register:x}, {(isWrite ? value : 0):x}"), rig =>
        {
            DeviceSide side = rig.Side;
            if (isWrite) { side.SetConfig32(EduSlots[which], register, value); }
            uint mask = register == 0x3C ? 0xFF00 : uint.MaxValue;
            side.Log(Text($"configuration {register:x}"), side.Config32(EduSlots[which], register) & mask);
            side.Log("status", side.Config32(EduSlots[which], 4));
            side.Log("wires", side.TakeWires());
            // Without memory decoding nothing more could be asked.
            if (register == 4 && (value & 2) == 0) { side.SetConfig32(EduSlots[which], 4, value | 2); }
        });
    }

    private static void EduDma(DeviceSide side, ulong bar, ulong source, ulong destination, ulong count, ulong command)
    {
        side.Client.Write64(new(bar + 0x80), source);
        side.Client.Write64(new(bar + 0x88), destination);
        side.Client.Write64(new(bar + 0x90), count);
        side.Client.Write64(new(bar + 0x98), command);
        side.Client.StepClock(110_000_000);
    }

    private static void Write(DeviceSide side, ulong address, int size, ulong value)
    {
        switch (size)
        {
            case 1: side.Client.Write8(new(address), (byte)value); break;
            case 2: side.Client.Write16(new(address), (ushort)value); break;
            case 4: side.Client.Write32(new(address), (uint)value); break;
            default: side.Client.Write64(new(address), value); break;
        }
    }

    private static ulong Read(DeviceSide side, ulong address, int size) => size switch
    {
        1 => side.Client.Read8(new(address)),
        2 => side.Client.Read16(new(address)),
        4 => side.Client.Read32(new(address)),
        _ => side.Client.Read64(new(address)),
    };
}
