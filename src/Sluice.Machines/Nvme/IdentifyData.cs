using System.Buffers.Binary;
using System.Text;

namespace Sluice.Machines.Nvme;

/// <summary>The 4096-byte pages that Identify answers with.</summary>
/// <remarks>NVM Express base specification 1.4, 5.15.</remarks>
internal static class IdentifyData
{
    public const int Bytes = 4096;
    public const ushort VendorId = 0x1B36;

    /// <summary>Which page Identify asks for (CNS).</summary>
    public enum Page : byte
    {
        Namespace = 0,
        Controller = 1,
        ActiveNamespaces = 2,
        NamespaceDescriptors = 3,
    }

    /// <summary>The controller page.</summary>
    public static void WriteController(Span<byte> page, NvmeModelOptions options)
    {
        page.Clear();
        Write16(page, 0, VendorId);
        Write16(page, 2, 0x1AF4);                          // SSVID
        WriteText(page.Slice(4, 20), options.Serial);
        WriteText(page.Slice(24, 40), options.Model);
        WriteText(page.Slice(64, 8), "1.0");
        page[72] = 6;                                      // RAB: 64 commands in a burst at best
        (page[74], page[75]) = (0x54, 0x52);               // IEEE 52:54:00, least significant byte first
        page[77] = Mdts(options);                          // MDTS, in units of CAP.MPSMIN
        Write32(page, 80, NvmeRegister.Version14);
        page[111] = 1;                                     // CNTRLTYPE: I/O controller
        page[258] = 3;                                     // ACL: 4 aborts at once
        page[259] = AsyncEvents.MaxRequests - 1;           // AERL
        page[260] = 0x03;                                  // FRMW: 1 slot, read-only
        page[261] = 0x04;                                  // LPA: log pages take offsets and long lengths
        page[262] = NvmeLogs.ErrorEntries - 1;             // ELPE
        Write16(page, 266, 0x157);                         // WCTEMP
        Write16(page, 268, 0x175);                         // CCTEMP
        page[512] = 0x66;                                  // SQES: 64 bytes
        page[513] = 0x44;                                  // CQES: 16 bytes
        Write32(page, 516, 1);                             // NN
        Write16(page, 520, 0x1D);                          // ONCS: compare, dataset management, write zeroes, select
        page[525] = 0x7;                                   // VWC: present, flush takes the broadcast namespace
        WriteText(page.Slice(768, 256), $"nqn.2024-01.example.sluice:nvme:{options.Serial}", pad: 0);
        Write16(page, 2048, 2500);                         // power state 0: 25 W
        Write32(page, 2048 + 4, 16);                       // ENLAT
        Write32(page, 2048 + 8, 4);                        // EXLAT
    }

    private static byte Mdts(NvmeModelOptions options) =>
        options.MaxTransferLog2 == NvmeModelOptions.NoLimit ? (byte)0 : (byte)(options.MaxTransferLog2 - 12);

    /// <summary>The page of namespace 1.</summary>
    public static void WriteNamespace(Span<byte> page, ulong blocks, int blockSizeLog2, INvmeMedium medium)
    {
        page.Clear();
        Write64(page, 0, blocks);                          // NSZE
        Write64(page, 8, blocks);                          // NCAP
        Write64(page, 16, blocks);                         // NUSE
        page[33] = medium.CanDeallocate ? (byte)0x9 : (byte)0; // DLFEAT: deallocated blocks read as zeros, or anything
        page[99] = medium.IsReadOnly ? (byte)1 : (byte)0;           // NSATTR: write protected
        Write64(page, 120, Eui64);
        page[128 + 2] = (byte)blockSizeLog2;               // LBAF0
    }

    /// <summary>The list of namespaces whose id is above <paramref name="after"/>.</summary>
    public static void WriteActiveNamespaces(Span<byte> page, uint after)
    {
        page.Clear();
        Write32(page, 0, after < 1 ? 1u : 0);
    }

    /// <summary>The identifiers of namespace 1.</summary>
    public static void WriteDescriptors(Span<byte> page)
    {
        page.Clear();
        const byte TypeEui64 = 1;
        (page[0], page[1]) = (TypeEui64, 8);
        Write64(page, 4, Eui64);
    }

    /// <summary>52:54:00, then a serial part; big-endian in memory, as all EUI-64s are.</summary>
    private static ulong Eui64 => BinaryPrimitives.ReverseEndianness(0x5254_00FF_FE00_0001UL);

    private static void Write16(Span<byte> page, int offset, ushort value) =>
        BinaryPrimitives.WriteUInt16LittleEndian(page[offset..], value);

    private static void Write32(Span<byte> page, int offset, uint value) =>
        BinaryPrimitives.WriteUInt32LittleEndian(page[offset..], value);

    private static void Write64(Span<byte> page, int offset, ulong value) =>
        BinaryPrimitives.WriteUInt64LittleEndian(page[offset..], value);

    private static void WriteText(Span<byte> field, string text, byte pad = (byte)' ')
    {
        field.Fill(pad);
        Encoding.ASCII.GetBytes(text, field);
    }
}
