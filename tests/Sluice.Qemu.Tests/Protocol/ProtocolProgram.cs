using System.Globalization;

namespace Sluice.Qemu.Tests.Protocol;

/// <summary>
/// A random program of protocol lines, good and odd ones, that QEMU survives: where it ends with an assertion there is
/// nothing to compare. Memory from 0x200000 on, ports 0xCF8 to 0xCFF, ECAM, the configuration spaces and registers of
/// edu and iommu-testdev, and the clock.
/// </summary>
internal sealed class ProtocolProgram
{
    private const ulong Memory = 0x20_0000;
    private const ulong Edu = 0xC000_0000;
    private const ulong Nowhere = 0xD000_0000;
    private readonly Random _random;
    private readonly List<string> _lines = [];
    private bool _mayWriteConfig;
    private long _time;

    private ProtocolProgram(int seed)
    {
        _random = new(seed);
        _time = (long)seed << 40;
    }

    /// <summary>Sets both machines to one state, whatever ran before.</summary>
    private static readonly string[] Prelude =
    [
        "outb 0xcf9 6", "readl 0", "memset 0x200000 0x2000 0",
        "outl 0xcf8 0x80000060", "outl 0xcfc 0xb0000001", "outl 0xcf8 0x80000064", "outl 0xcfc 0",
        "outl 0xcf8 0x80002810", "outl 0xcfc 0xc0000000", "outl 0xcf8 0x80002804", "outl 0xcfc 6",
        "writel 0xc0000064 0xffffffff", "writel 0xc0000004 0", "writel 0xc0000020 0",
        "writeq 0xc0000080 0", "writeq 0xc0000088 0", "writeq 0xc0000090 0",
    ];

    public static IReadOnlyList<string> Create(int seed)
    {
        ProtocolProgram program = new(seed);
        program._lines.AddRange(Prelude);
        program._lines.Add($"clock_set {program._time}");
        for (int i = 0; i < 40; i++) { program.Add(); }
        return program._lines;
    }

    private void Add()
    {
        switch (_random.Next(10))
        {
            case 0 or 1: _lines.Add(Words()); break;
            case 2 or 3: _lines.Add(Block()); break;
            case 4 or 5 or 6: _lines.Add(Port()); break;
            case 7: _lines.Add(Clock()); break;
            default: _lines.Add(Odd()); break;
        }
    }

    private string Words()
    {
        char width = Pick('b', 'w', 'l', 'q');
        return _random.Next(2) == 0 ? $"read{width} {Number(ReadAddress())}{Tail()}"
            : $"write{width} {Number(WriteAddress(isWide: width == 'q'))} {Number(Value())}{Tail()}";
    }

    private string Block()
    {
        string address = Number(_random.Next(8) == 0 ? Nowhere : Memory + (ulong)_random.Next(0x1000));
        int size = Pick(1, 2, 3, 4, 7, 8, 16, 33, 256);
        return _random.Next(6) switch
        {
            0 => $"read {address} {Number((ulong)size)}{Tail()}",
            1 => $"b64read {address} {Number((ulong)size)}{Tail()}",
            2 => $"memset {address} {Number((ulong)size)} {Number(Value())}{Tail()}",
            3 => $"b64write {address} {Number((ulong)size)} {Text(size * 4 / 3, "ABCDwxyz0189+/=!-_")}{Tail()}",
            4 => $"write {address} {Number((ulong)size)} "
                + $"{Text(2, "0xX1z")}{Text(size * 2, "0123456789abcdefABCDEFgxz-")}{Tail()}",
            _ => $"write {address} {Number((ulong)size)} 0x{Text(size * 2, "0123456789abcdef")}{Tail()}",
        };
    }

    private string Port()
    {
        ushort port = (ushort)(0xCF8 + _random.Next(8));
        char width = Pick('b', 'w', 'l');
        if (_random.Next(3) == 0)
        {
            uint function = Pick<uint>(
                0x8000_0000, 0x8000_2800, 0x8000_2800, 0x8000_3800, 0x8000_F000, 0x0000_2800, 0xFF00_2800);
            uint register = (uint)_random.Next(0x100);
            // In QEMU software may write what no capability takes.
            _mayWriteConfig = function is 0x8000_2800 or 0x8000_3800 && register < 0x3D;
            if (function == 0x8000_0000) { register &= 0x0F; }
            return $"outl 0xcf8 {Number(function | register)}";
        }
        if (_random.Next(2) == 0 || !_mayWriteConfig || port is 0xCF8 or 0xCF9)
        {
            return $"in{width} {Number(port)}{Tail()}";
        }
        return $"out{width} {Number(port)} {Number(Value())}{Tail()}";
    }

    /// <summary>After its first reset QEMU's clock follows real time besides: all steps are far from that.</summary>
    private string Clock()
    {
        const long Second = 1_000_000_000;
        long step = 10 * Second + _random.Next(1_000_000);
        switch (_random.Next(4))
        {
            case 0:
                _time += step;
                return $"clock_set {Signed(_time)}";
            case 1: return $"clock_set {Signed(_time - step)}";
            case 2: return $"clock_step {Pick("0", "-1", "-0x10")}";
            default:
                _time += step;
                return $"clock_step {Signed(step)}";
        }
    }

    private string Odd() => Pick(
        "#", "# writel 0x200000 7", "#x", "", " readl 0x200000", "  ", "\treadl 0x200000", "READL 0x200000", "readx 0",
        "endianness", "endianness x", "write 0x200000 4 0x", "write 0x200000 4  0x11223344", "write 0x200000 4 ",
        "b64write 0x200000 4 AA", "b64write 0x200000 4 ", "b64write 0x200000 0 AQID", "write 0x200000 0 0x1",
        "b64read 0x200000 0", "irq_intercept_in nobody", "irq_intercept_out nobody", "irq_intercept_in ioapic x",
        Text(300, "abc")) is var line && (line.Length == 0 || line[0] == '#') ? line + "\nendianness" : line;

    private ulong ReadAddress() => _random.Next(8) switch
    {
        0 => Nowhere + (ulong)_random.Next(64),
        1 => Edu + (ulong)_random.Next(0xB0),
        2 => 0xB002_8000 + (ulong)_random.Next(0x40),
        3 => 0xBF00_0000 + (ulong)_random.Next(0x1000),
        _ => Memory + (ulong)_random.Next(0x1000),
    };

    /// <summary>Of edu's registers those that start nothing: its DMA and factorials take time on both.</summary>
    private ulong WriteAddress(bool isWide) => _random.Next(6) switch
    {
        0 => Nowhere + (ulong)_random.Next(64),
        1 when isWide => Edu + Pick<ulong>(0x60, 0x80, 0x84, 0x88),
        1 => Edu + Pick<ulong>(0x04, 0x05, 0x0C, 0x60, 0x64, 0x80, 0x84, 0x88),
        _ => Memory + (ulong)_random.Next(0x1000),
    };

    private ulong Value() => _random.Next(5) switch
    {
        0 => 0,
        1 => ulong.MaxValue,
        2 => (ulong)_random.Next(256),
        _ => (ulong)_random.NextInt64(),
    };

    /// <summary>One of the ways to write a number.</summary>
    private string Number(ulong value)
    {
        CultureInfo plain = CultureInfo.InvariantCulture;
        return _random.Next(9) switch
        {
            0 => value.ToString(plain),
            1 => "+" + value.ToString(plain),
            2 => "-" + (0 - value).ToString(plain),
            3 => "0" + Convert.ToString((long)value, 8),
            4 => "0X" + value.ToString("X", plain),
            5 => "0b" + Convert.ToString((long)value, 2),
            6 => "\t0x" + value.ToString("x", plain),
            7 => "-0x" + (0 - value).ToString("x", plain),
            _ => "0x" + value.ToString("x", plain),
        };
    }

    /// <summary>Times are signed: none of those that count down from 2^64.</summary>
    private string Signed(long value) =>
        _random.Next(3) switch { 0 => $"+{value}", 1 => $"0x{value:x}", _ => "0" + Convert.ToString(value, 8) };

    private string Tail() => _random.Next(12) switch { 0 => " ", 1 => " x", 2 => "  ", _ => "" };

    private string Text(int length, string letters) =>
        string.Create(length, letters, (span, from) =>
        {
            foreach (ref char letter in span) { letter = from[_random.Next(from.Length)]; }
        });

    private T Pick<T>(params ReadOnlySpan<T> choices) => choices[_random.Next(choices.Length)];
}
