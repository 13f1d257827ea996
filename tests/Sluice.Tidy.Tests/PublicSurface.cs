using System.Reflection;
using System.Runtime.CompilerServices;

namespace Sluice.Tidy.Tests;

/// <summary>What everyone may call: no bare numbers where an address is meant.</summary>
public sealed class PublicSurface
{
    private static readonly string[] AddressWords = 
        ["address", "iova", "physical", "logical", "last", "first", "base", "root", "limit"];

    public static TheoryData<string> Libraries =>
    [
        .. Repository.Find("src", "*.csproj")
            .Select(Path.GetFileNameWithoutExtension)
            .Where(static name => name != "Sluice.Cli")
            .Select(static name => name!),
    ];

    // Seen failing: a public method with a parameter `ulong last`.
    [Theory]
    [MemberData(nameof(Libraries))]
    public void NoBareNumberIsAnAddress(string library)
    {
        // The two newtypes themselves, and their operators, are where numbers become addresses.
        IEnumerable<Type> types = Assembly.Load(library).GetExportedTypes()
            .Where(static type => type != typeof(PhysicalAddress) && type != typeof(LogicalAddress));
        foreach (Type type in types)
        {
            const BindingFlags Declared = BindingFlags.Public | BindingFlags.Instance
                | BindingFlags.Static | BindingFlags.DeclaredOnly;
            IEnumerable<MethodBase> methods = type.GetMethods(Declared).Cast<MethodBase>()
                .Concat(type.GetConstructors(Declared));
            foreach (MethodBase method in methods)
            {
                if (method.IsDefined(typeof(CompilerGeneratedAttribute))) { continue; }
                foreach (ParameterInfo parameter in method.GetParameters())
                {
                    Assert.False(
                        parameter.ParameterType == typeof(ulong) && AddressWords.Any(word =>
                            parameter.Name!.EndsWith(word, StringComparison.OrdinalIgnoreCase)),
                        $"{type.Name}.{method.Name}({parameter.Name}) is a bare ulong");
                }
            }
        }
    }
}
