using System.Globalization;
using System.Text;
using Sluice.Formats.Vtd;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>Where two machines parted.</summary>
/// <param name="Step">The step after which they differed.</param>
/// <param name="Kind">Which registers, and whether memory: what stays the same while a program is shortened.</param>
/// <param name="What">The values.</param>
internal sealed record Difference(int Step, string Kind, string What);

/// <summary>Runs programs on two machines side by side and compares what can be seen, after every step.</summary>
internal sealed class Differ(SluiceTarget ours, Target theirs, int topLevel = 3, char unforgiven = ' ')
{
    private readonly ulong[] _ours = new ulong[Target.Registers.Length];
    private readonly KnownDifferences _known = new(ours, unforgiven);
    private readonly ulong[] _theirs = new ulong[Target.Registers.Length];

    public long Steps { get; private set; }

    public long Dmas { get; private set; }

    /// <summary>The first difference, or null.</summary>
    public Difference? Run(IReadOnlyList<Step> program)
    {
        foreach (Target target in (Target[])[ours, theirs])
        {
            Layout.Initialise(target.Memory, topLevel);
            foreach (Step step in ProgramGenerator.Prologue) { target.Do(step); }
            target.Read(_ours);
        }
        for (int i = 0; i < program.Count; i++)
        {
            Steps++;
            Dmas += program[i] is Step.Dma ? 1 : 0;
            theirs.Do(program[i]);
            theirs.Read(_theirs);
            ours.Do(program[i]);
            ours.Read(_ours);
            bool resync = _known.Forgive(program[i], _ours, _theirs);
            if (Compare(i) is { } difference) { return difference; }
            if (resync) { ClearFaults(); }
        }
        return null;
    }

    /// <summary>Leaves out steps as long as some difference remains: what is left is the reason.</summary>
    public IReadOnlyList<Step> Shrink(IReadOnlyList<Step> program)
    {
        List<Step> best = [.. program];
        string? kind = Run(best)?.Kind;
        for (int size = best.Count / 2; size >= 1; size /= 2)
        {
            for (int at = 0; at + size <= best.Count;)
            {
                List<Step> shorter = [.. best[..at], .. best[(at + size)..]];
                if (Run(shorter) is { } found && found.Kind == kind) { best = shorter[..(found.Step + 1)]; }
                else { at += size; }
            }
        }
        return best;
    }

    /// <summary>Everything one needs to see what happened.</summary>
    public string Explain(int seed, IReadOnlyList<Step> program)
    {
        IReadOnlyList<Step> shortest = Shrink(program);
        Difference? difference = Run(shortest) ?? Run(shortest);
        StringBuilder text = new();
        text.AppendLine(CultureInfo.InvariantCulture,
            $"seed {seed}: the machines differ; left is ours, right is QEMU's");
        for (int i = 0; i < shortest.Count; i++)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"  {i,3} {shortest[i]}");
        }
        text.AppendLine(CultureInfo.InvariantCulture,
            $"  then {difference?.What ?? "nothing: the difference does not repeat"}");
        return text.ToString();
    }

    private void ClearFaults()
    {
        foreach (Target target in (Target[])[ours, theirs])
        {
            target.Write64(0x228, FaultRecord.ValidBit);
            target.Write32(VtdRegister.FaultStatus, VtdFaultStatus.Overflow);
            target.Settle();
        }
    }

    private Difference? Compare(int step)
    {
        StringBuilder text = new();
        string kind = "";
        for (int i = 0; i < _ours.Length; i++)
        {
            if (_ours[i] != _theirs[i])
            {
                kind += $"{Target.Registers[i].Name} ";
                text.Append(CultureInfo.InvariantCulture,
                    $"{Target.Registers[i].Name} 0x{_ours[i]:X} | 0x{_theirs[i]:X}; ");
            }
        }
        foreach ((ulong first, ulong length) in (ReadOnlySpan<(ulong, ulong)>)
            [(Layout.RootTable, Layout.ControlEnd - Layout.RootTable), (Layout.FirstData, Layout.DataPages * 0x1000),
                (Layout.OtherData, Layout.DataPages * 0x1000)])
        {
            Span<byte> mine = Bytes(ours, first, length);
            Span<byte> other = Bytes(theirs, first, length);
            int same = mine.CommonPrefixLength(other);
            if (same == mine.Length) { continue; }
            if (!kind.EndsWith("memory", StringComparison.Ordinal)) { kind += "memory"; }
            int last = mine.Length - 1;
            while (mine[last] == other[last]) { last--; }
            text.Append(CultureInfo.InvariantCulture,
                $"memory from 0x{first + (ulong)same:X} to 0x{first + (ulong)last:X}: "
                + $"0x{mine[same]:X2}… | 0x{other[same]:X2}…; ");
        }
        return text.Length == 0 ? null : new(step, kind, text.ToString());
    }

    private static Span<byte> Bytes(Target target, ulong first, ulong length) =>
        target.Memory.TryGetSpan(new(first), (int)length, out Span<byte> bytes)
            ? bytes
            : throw new InvalidOperationException("no memory");
}
